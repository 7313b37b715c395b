"""The choices of an evaluation, by the names that its files and its errors use."""

from typing import Literal

Kind = Literal["captions", "referring", "vqa"]
"""What is evaluated: captions, boxes for referring expressions, answers to questions."""

Benchmark = Literal[
    "gqa", "scienceqa", "vizwiz", "ok-vqa", "textvqa", "pope", "mme", "mmbench", "exact"
]
"""Whose rule scores answers to questions; `exact` compares any short answers but for case and
punctuation."""
