"""The viewer's pages, one router for each."""
