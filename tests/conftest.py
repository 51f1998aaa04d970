"""What pytest leaves alone: recorded runs carry their scenario, which is no test of its own."""

collect_ignore = ["recorded"]
