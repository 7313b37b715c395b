"""Drawings of the kinds of things that stand in the scenes."""
