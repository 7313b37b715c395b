"""Kills the parts of running annotations with SIGKILL and checks what is there in the end."""
