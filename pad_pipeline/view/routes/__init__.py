"""The viewer's pages, a router for each."""
