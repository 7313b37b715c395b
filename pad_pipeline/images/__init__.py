"""Encoded image bytes to RGB arrays, and which files hold images at all."""

from pad_pipeline.images.decode import ImageError, ImageLimits, decode_image, image_size

__all__ = ["ImageError", "ImageLimits", "decode_image", "image_size"]
