"""Which commit broke a claim: `git bisect run` over revisions that are built, booted and judged."""
