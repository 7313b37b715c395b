"""Encoded image bytes to RGB arrays, and which files hold images at all."""

from pad_pipeline.images.decode import ImageError, ImageLimits, decode_image, image_size
from pad_pipeline.images.pixels import pixels_of

__all__ = ["ImageError", "ImageLimits", "decode_image", "image_size", "pixels_of"]
