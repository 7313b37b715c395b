"""Training of the embedded vision tower, tokenizer and language model."""
