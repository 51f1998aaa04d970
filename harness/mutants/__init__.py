"""Seeded bugs: what an expectation is worth is shown by the mutant that fails it."""
