"""Families of models, search, folds and calibration."""
