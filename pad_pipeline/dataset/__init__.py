"""PAD data sets on disk: reading, writing, checking, drawing."""
