"""The embedded default: illustrated scenes with exact ground truth, and models trained on them."""
