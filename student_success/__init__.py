"""Predict a pupil's final grade, say how sure and why, and keep the model's life under control."""

import os

__version__ = "1.0.0"

# onnxruntime, since 1.29, reports its use to its maker and keeps a device number on disk, unless
# told not to before it is first imported. This package is imported before it, in every process.
os.environ["ORT_DISABLE_TELEMETRY"] = "1"
