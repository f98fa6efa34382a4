"""The web interface: a process of its own that only uses the HTTP API."""
