"""Photographs with known content: a demo of real masks, and a check of real weights."""
