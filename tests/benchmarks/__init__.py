"""The benchmarks that only a GPU can run for their figures: that they run at all."""
