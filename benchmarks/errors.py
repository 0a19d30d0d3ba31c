"""The one exception of the benchmark that is meant for the person who runs it."""


class BenchmarkError(Exception):
    """Say in one sentence why the benchmark can't be run or its figures can't be had."""
