"""The training data: prepare, check, describe, and the synthetic sample."""
