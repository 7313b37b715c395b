"""The sections of `benchmarks/gpu.py`, a module each; `plan` lists them in their order."""
