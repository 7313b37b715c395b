"""Images in, PAD records out: the stages, the in-process annotator and the run on Ray."""
