"""HTTP: routes, validation, tokens, errors, OpenAPI."""
