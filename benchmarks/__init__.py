"""What the pipeline costs, beside the same job written in two other ways: `python -m benchmarks.compare_bounded`."""
