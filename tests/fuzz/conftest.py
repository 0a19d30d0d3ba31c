"""All tests here run with the accelerator, and without."""

from tests.ways import both_ways  # noqa: F401 - a fixture
