"""Labels that other programs wrote become data sets of PAD records."""
