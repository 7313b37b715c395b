"""Recognize Anything (RAM and RAM++): which words apply to an image."""
