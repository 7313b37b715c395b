"""The online service: images over HTTP through the stages of a run, on Ray Serve."""
