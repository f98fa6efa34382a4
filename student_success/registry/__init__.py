"""The MLflow registry and the Bento store: find, check, fetch and load a version."""
