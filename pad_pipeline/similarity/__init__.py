"""Embeddings of a data set, and what follows from them: duplicates, neighbours and a map."""
