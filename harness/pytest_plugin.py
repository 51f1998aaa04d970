"""`pytest scenarios/`: YAML scenarios as tests, and fixtures for tests written in Python."""
