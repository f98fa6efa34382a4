"""From a fitted model to a registered artefact."""
