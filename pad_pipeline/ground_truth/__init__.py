"""What is truly in the images, by COCO's annotations, and which regions of a data set find it."""
