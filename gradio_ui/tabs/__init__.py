"""The tabs: components, events and callbacks."""
