"""A run of training: its settings, its files, its workers and how it stands."""
