"""The model report: narrative, plots, published figures."""
