"""The bridge side by side with its peers behind one Nginx: `python -m benchmarks`, see docs/benchmarks.md."""
