"""The tabs of the web interface: what happens on each event."""
