"""What is drawn at random, from a seed and a sample's id alone.

A draw is SHA-256 of the JSON list [seed, sample id, what is drawn], its first eight bytes as a
number, modulo the number of choices. So it is the same on every machine and in every version,
whatever the order of the samples and whoever works on them.
"""

from __future__ import annotations

import hashlib
import json
from dataclasses import dataclass


@dataclass(frozen=True, slots=True)
class Draws:
    """The draws of one sample."""

    seed: int
    sample_id: str

    def below(self, number: int, what: str) -> int:
        """One of 0, …, number − 1, all alike likely (to 2⁻⁵⁰ and better for a million choices)."""
        text = json.dumps([self.seed, self.sample_id, what])
        return int.from_bytes(hashlib.sha256(text.encode()).digest()[:8], "big") % number
