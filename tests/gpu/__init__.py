"""What only a machine with a CUDA GPU can show; Ray is not needed."""
