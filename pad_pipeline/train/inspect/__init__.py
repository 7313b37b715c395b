"""One training sample drawn as the model sees it."""
