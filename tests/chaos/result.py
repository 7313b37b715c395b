"""What came of the kills: by data set, and altogether."""

from __future__ import annotations

from collections import Counter
from dataclasses import asdict, dataclass, field
from typing import Any


@dataclass
class Checked:
    """One data set, compared with that of an uninterrupted run."""

    place: str
    seed: int
    kills: int = 0
    starts: int = 0
    lost: int = 0
    duplicated: int = 0
    in_order: bool = False
    identical: bool = False
    validates: bool = False
    leftovers: list[str] = field(default_factory=list)
    """Files that an uninterrupted run does not leave."""
    missing: list[str] = field(default_factory=list)
    """Files that an uninterrupted run leaves and this one has not."""
    gave_up: list[str] = field(default_factory=list)
    """Last lines of commands that ended by themselves, with an error, though none of the processes
    whose end they cannot survive was killed."""

    @property
    def is_right(self) -> bool:
        """Whether it is the uninterrupted run's, and no command ended for another reason."""
        wrong = self.lost or self.duplicated or self.leftovers or self.missing or self.gave_up
        return self.in_order and self.identical and self.validates and not wrong


@dataclass
class Result:
    """What a campaign came to."""

    seed: int
    layout: str
    num_scenes: int
    kills: Counter[str] = field(default_factory=Counter)
    phases: Counter[str] = field(default_factory=Counter)
    data_sets: list[Checked] = field(default_factory=list)
    stderr: Counter[str] = field(default_factory=Counter)
    """Lines on stderr, numbers as #, with how often they came."""
    stdout_of_ray: Counter[str] = field(default_factory=Counter)
    """Lines on stdout that speak of Ray."""
    errors_after_loss: Counter[str] = field(default_factory=Counter)
    """Last lines of commands whose own raylet was killed."""
    processes_left: int = 0
    seconds: float = 0.0

    @property
    def is_right(self) -> bool:
        """Whether every data set is."""
        return bool(self.data_sets) and all(checked.is_right for checked in self.data_sets)

    def to_dict(self) -> dict[str, Any]:
        """Plain JSON values."""
        sets = self.data_sets
        return {
            "right": self.is_right,
            "kills": sum(self.kills.values()),
            "kills_by_kind": dict(sorted(self.kills.items())),
            "kills_by_phase": dict(sorted(self.phases.items())),
            "data_sets": len(sets),
            "images": self.num_scenes * len(sets),
            "lost": sum(checked.lost for checked in sets),
            "duplicated": sum(checked.duplicated for checked in sets),
            "shards_identical": all(checked.identical for checked in sets),
            "files_missing": sum(len(checked.missing) for checked in sets),
            "gave_up": sum(len(checked.gave_up) for checked in sets),
            "seconds": round(self.seconds, 1),
            "seed": self.seed,
            "layout": self.layout,
            "scenes_per_data_set": self.num_scenes,
            "processes_left": self.processes_left,
            "each": [{"right": checked.is_right, **asdict(checked)} for checked in sets],
            "errors_after_loss_of_own_raylet": dict(self.errors_after_loss.most_common()),
            "stdout_of_ray": dict(self.stdout_of_ray.most_common()),
            "stderr": dict(self.stderr.most_common()),
        }
