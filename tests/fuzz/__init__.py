"""Untrusted input: hostile files may be refused, never crash, hang or take all the memory."""
