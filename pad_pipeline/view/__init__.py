"""The web viewer of data sets: an index in DuckDB, server-rendered pages, a little JavaScript."""
