"""What is killed and when: at chosen moments, or drawn from a seed, always in the same sequence."""

from __future__ import annotations

import random
from collections.abc import Iterator
from dataclasses import dataclass, replace
from typing import Literal

Phase = Literal["soon", "work", "last", "end"]

LONGEST_WAIT_S: dict[Phase, float] = {"soon": 10.0, "work": 2.0, "last": 3.0, "end": 0.1}
"""The wait is drawn from 0 to this. It begins
soon: with the start of the command or the kill before, so it hits start-up and recovery;
work: once something new is committed since then;
last: when one shard is missing;
end: when the last shard is there, so it hits what concludes a run."""

KINDS = {
    "pools": ("driver", "raylet", "reader", "tag", "detect", "suppress", "segment"),
    "fused": ("driver", "raylet", "reader", "annotate"),
}
_PHASES: dict[str, dict[Phase, float]] = {
    "driver": {"soon": 0.3, "work": 0.4, "last": 0.1, "end": 0.2},
    # later, there are none: everything is read
    "reader": {"soon": 1.0},
}
_PHASES_OF_OTHERS: dict[Phase, float] = {"soon": 0.4, "work": 0.5, "last": 0.1}


@dataclass(frozen=True, slots=True)
class Kill:
    """One kill to be done: `wait_s` after what `phase` names."""

    kind: str
    phase: Phase
    wait_s: float

    def sooner(self) -> Kill:
        """For the next run, where this one has ended without it.

        Where a run is nearly over, a stage's workers may have gone home: waiting for that moment
        again and again would not end.
        """
        late = self.phase == "last" and self.kind != "driver"
        return replace(self, phase="work") if late else self


def chosen(layout: str) -> list[Kill]:
    """One kill of each kind and phase at the moment that leaves the most to make up for.

    Start-up with the reader, every stage and the driver amid the work, a node, a stage while that
    node's workers are replaced, the last shard, and the driver when only the conclusion is missing.
    """
    stages = [kind for kind in KINDS[layout] if kind not in (*_PHASES, "raylet")]
    return [
        Kill("reader", "soon", 0.0),
        *(Kill(stage, "work", 0.0) for stage in stages),
        Kill("driver", "work", 0.0),
        Kill("raylet", "work", 0.0),
        Kill(stages[0], "soon", 0.5),
        Kill(stages[-1], "last", 0.0),
        Kill("driver", "end", 0.0),
    ]


def draw(seed: int, layout: str) -> Iterator[Kill]:
    """The endless sequence of a seed; of every round of kinds, each comes once."""
    rng = random.Random(seed)
    kinds = KINDS[layout]
    while True:
        for kind in rng.sample(kinds, len(kinds)):
            phases = _PHASES.get(kind, _PHASES_OF_OTHERS)
            [phase] = rng.choices(list(phases), list(phases.values()))
            yield Kill(kind, phase, round(rng.uniform(0, LONGEST_WAIT_S[phase]), 3))
