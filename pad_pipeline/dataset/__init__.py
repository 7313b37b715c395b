"""Reading a finished or growing data set of PAD records: export, validate, stats, render."""
