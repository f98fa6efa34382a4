"""The service beside its peers and its limits, measured in one run: `make bench`."""
