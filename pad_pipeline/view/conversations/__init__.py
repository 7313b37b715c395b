"""Pages of conversations with questions for indices and colours, beside the images."""
