"""The applications that are compared; each module is started by a server of its own."""
