"""Measure the served model and the service: drift, live error, gauges for the alerts."""
