"""Vision tower, projector and language model; loading and exporting them."""
