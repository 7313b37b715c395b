"""Records drawn on their images: colours, masks, boxes, labels, contact sheets."""
