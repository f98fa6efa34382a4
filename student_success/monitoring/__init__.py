"""How the model fares: drift, live error, snapshots."""
