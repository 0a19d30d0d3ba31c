"""What only shows over time, or in numbers: run whole by `make soak`, and in small with all other tests."""
