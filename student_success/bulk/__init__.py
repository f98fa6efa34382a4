"""Score files too large for HTTP, on the cores of one machine or on a Dask cluster.

The reader cuts a file into parts of whole rows and bounded size, workers score the parts, and the
predictions are written in order. The predictions are recorded in the history if that is asked for.
"""
