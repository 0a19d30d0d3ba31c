"""The applications that these tests serve."""
