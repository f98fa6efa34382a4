"""Score files too large for HTTP, on the cores of one machine or on a Dask cluster.

The reader cuts a file into slices of whole records and bounded size, workers score the slices, and
the writer appends the predictions in order. A journal of the progress lets a killed run continue.
Nothing is written to the history.
"""
