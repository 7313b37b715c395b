"""Training of the embedded VQ model on drawn scenes."""
