"""Kills the parts of running annotations with SIGKILL and looks at what is there in the end."""
