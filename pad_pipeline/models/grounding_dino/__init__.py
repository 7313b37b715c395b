"""Grounding DINO and MM-Grounding-DINO: where the named things are."""
