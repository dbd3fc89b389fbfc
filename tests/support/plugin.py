"""Fixtures of the whole suite; loaded by name, so that every test file is free of imports for them."""
