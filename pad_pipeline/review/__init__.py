"""Marks that people set on the images and regions of a data set, kept in one file beside it."""
