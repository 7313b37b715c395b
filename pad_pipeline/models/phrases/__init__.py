"""Noun phrases of captions: the things that a text names, by spaCy."""
