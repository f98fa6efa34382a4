"""The use cases, without HTTP: one class for each."""
