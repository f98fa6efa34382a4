"""The web server of the interface: page, access control, static files."""
