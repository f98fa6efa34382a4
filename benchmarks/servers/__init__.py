"""What the peers serve; each file is started by a server of its own."""
