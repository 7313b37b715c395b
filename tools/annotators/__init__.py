"""Training of the embedded models on generated scenes."""
