"""The paper's tables in miniature, on the embedded models."""
