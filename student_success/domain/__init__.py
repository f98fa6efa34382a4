"""The pupil, the decision, request and response schemas, reading and writing tables."""
