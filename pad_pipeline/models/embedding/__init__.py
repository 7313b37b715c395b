"""Features of images and of their regions, by RAM's image encoder or CLIP's."""
