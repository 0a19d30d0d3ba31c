"""Each test here runs with the accelerator or without, in turn."""

from tests.ways import either_way  # noqa: F401 - a fixture
