"""The settings: their declarations, where they are read from, their checks."""
