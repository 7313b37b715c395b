"""Patch-aligned training: stage 1 trains the projector, stage 2 projector and language model."""
