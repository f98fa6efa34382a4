"""Settings, errors, clock, logging, metrics, subprocesses: nothing about schools."""
