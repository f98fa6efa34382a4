"""The command line, `student-success`."""
