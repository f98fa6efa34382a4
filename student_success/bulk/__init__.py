"""Scoring of files too large for HTTP, on the cores of one machine or on a cluster.

The reader cuts a file into slices of bounded size, whole records each; workers turn a slice into
the bytes of its answers; the writer puts those down in order and keeps a journal, so that a run
that was killed goes on where it was. Nothing of it is kept in the history.
"""
