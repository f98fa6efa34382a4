"""The synthetic sample and its generator."""

SAMPLE_CONTENT_SHA256 = ""
