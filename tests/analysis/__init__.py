"""Tests of the measures and their figures."""
