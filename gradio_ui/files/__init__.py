"""Files a person loads and saves."""
