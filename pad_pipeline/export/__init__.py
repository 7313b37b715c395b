"""A data set in the formats that other programs read, one file for each format."""
