"""A verified model artefact in memory: predict and explain."""
