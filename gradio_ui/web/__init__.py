"""The web server: page, access control, static files."""
