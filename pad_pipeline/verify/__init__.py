"""Our models held against recorded outputs of the original implementations."""
