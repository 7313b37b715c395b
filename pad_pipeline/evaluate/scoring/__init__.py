"""Scores of answers: each benchmark's rules, and how sure the figures are."""
