"""The entries of a source that are not trained on: counted by reason, the first ones named."""

from __future__ import annotations

import logging
from collections import Counter, defaultdict

from pad_pipeline.errors import Setting, UserError

logger = logging.getLogger(__name__)

_MOST_NAMED = 3


class LeftOutSamples:
    """What one source holds that a run does not train on.

    An entry is bad where it cannot be trained on as it is written; one that failed in annotation,
    or has no caption, is left out and not bad.
    """

    def __init__(self) -> None:
        self.counts: Counter[str] = Counter()
        """Entries by reason."""
        self.num_bad = 0
        self._names: defaultdict[str, list[str]] = defaultdict(list)

    def add(self, reason: str, name: str, *, is_bad: bool = False) -> None:
        """Count an entry; `name` is its id, and what is wrong with it where reasons differ."""
        self.counts[reason] += 1
        self.num_bad += is_bad
        if len(self._names[reason]) < _MOST_NAMED:
            self._names[reason].append(name)

    def update(self, other: LeftOutSamples) -> None:
        """Add what another source left out."""
        self.counts.update(other.counts)
        self.num_bad += other.num_bad
        for reason, names in other._names.items():
            self._names[reason] = (self._names[reason] + names)[:_MOST_NAMED]

    def lines(self) -> list[str]:
        """A line for each reason: `1,234 with <image> and no image (17, 45, …)`."""
        return [
            f"{count:,} {reason} ({', '.join(self._names[reason])}"
            f"{', …' if count > len(self._names[reason]) else ''})"
            for reason, count in self.counts.most_common()
        ]

    def report(self) -> None:
        """Log the lines."""
        for line in self.lines():
            logger.warning("left out samples: %s", line)

    def check(self, source: str, num_samples: int, max_bad_share: float) -> None:
        """Raise `UserError` where more of the source's entries are bad than `max_bad_share`.

        `num_samples` are those that are trained on.
        """
        number = num_samples + self.counts.total()
        share = self.num_bad / max(number, 1)
        if share > max_bad_share:
            raise UserError(
                f"{source}: {self.num_bad:,} of {number:,} samples ({share:.1%}) cannot be trained "
                "on as they are written, where ",
                Setting("max_bad_share"),
                f" allows {max_bad_share:.1%}: {'; '.join(self.lines())}",
            )
