"""What became of the entries of a list of conversations."""

from __future__ import annotations

from collections import Counter
from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import Any

from pad_pipeline.sources.rows import utf8

_MOST_NAMED = 3


@dataclass
class Counts:
    """What became of the entries: how many got questions, and the others by reason."""

    num_entries: int = 0
    num_asked: int = 0
    num_failed: int = 0
    num_tagged: int = 0
    left: Counter[str] = field(default_factory=Counter)
    names: dict[str, list[str]] = field(default_factory=dict)

    def leave(self, name: str, problem: str, *, is_failed: bool) -> None:
        """Count an entry that gets no questions; what differs from entry to entry follows ": "."""
        reason, _, detail = problem.partition(": ")
        self.left[reason] += 1
        self.num_failed += is_failed
        names = self.names.setdefault(reason, [])
        if len(names) < _MOST_NAMED:
            names.append(utf8(f"{name}: {detail}" if detail else name))

    def update(self, other: Counts) -> None:
        """Add those of another shard."""
        self.num_entries += other.num_entries
        self.num_asked += other.num_asked
        self.num_failed += other.num_failed
        self.num_tagged += other.num_tagged
        self.left.update(other.left)
        for reason, names in other.names.items():
            self.names[reason] = (self.names.get(reason, []) + names)[:_MOST_NAMED]

    @property
    def num_images(self) -> int:
        """Entries with an image."""
        return self.num_asked + self.num_failed

    def lines(self) -> list[str]:
        """A line for each reason: `12 whose image cannot be read (a.jpg: …, b.jpg: …)`."""
        return [
            f"{count:,} {reason} ({', '.join(self.names[reason])}"
            f"{', …' if count > len(self.names[reason]) else ''})"
            for reason, count in self.left.most_common()
        ]

    def to_dict(self) -> dict[str, Any]:
        """Plain JSON values."""
        return {**vars(self), "left": dict(self.left)}

    @classmethod
    def from_dict(cls, values: Mapping[str, Any]) -> Counts:
        """The inverse of `to_dict`."""
        return cls(**{**values, "left": Counter(values["left"])})
