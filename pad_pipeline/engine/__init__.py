"""What `annotate` and `serve` stand on: stages, their plan and workers, and isolation of faults."""
