"""The web interface: its own process, a client of the HTTP API and of nothing else."""
