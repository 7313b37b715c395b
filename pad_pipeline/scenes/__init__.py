"""Illustrated scenes with exact ground truth, and the embedded models trained on them."""
