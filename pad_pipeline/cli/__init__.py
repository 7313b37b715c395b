"""The command `pad-pipeline`: one file for each group of commands."""
