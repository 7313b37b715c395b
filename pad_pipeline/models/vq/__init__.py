"""VQ models: images as grids of indices into a codebook, and back."""
