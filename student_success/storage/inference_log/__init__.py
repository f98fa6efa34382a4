"""The log of predictions: group commit, pages, erasure."""
