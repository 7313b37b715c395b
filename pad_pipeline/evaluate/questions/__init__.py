"""Questions of the benchmarks in the files that people have them in."""
