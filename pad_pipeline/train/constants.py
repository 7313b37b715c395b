"""Values that stand for something else in sequences of token ids and labels, as in LLaVA."""

IGNORE_INDEX = -100
"""The label of a position that is not supervised."""

IMAGE_TOKEN_INDEX = -200
"""Stands in a text's ids where an image's tokens go."""
