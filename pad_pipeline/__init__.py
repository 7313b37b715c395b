"""Annotate images with tags, boxes and masks, and train patch-aligned projectors on the result."""

__version__ = "0.1.0"
