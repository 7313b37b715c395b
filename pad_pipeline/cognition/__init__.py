"""Conversations for cognition alignment: VQ indices and RGB values asked for and answered."""
