"""SAM 3 as a detector that gives boxes and masks for the words of an image."""
