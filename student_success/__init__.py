"""Predict a pupil's final grade, say how sure and why, and keep the model's life under control."""

__version__ = "1.0.0"
