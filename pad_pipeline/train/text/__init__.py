"""Captions and conversations as token ids with the tokens that are supervised."""
