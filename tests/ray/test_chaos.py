"""Parts of running annotations are killed; the data sets are those of an undisturbed run."""

from __future__ import annotations

import json
import os
import subprocess
import sys
from itertools import islice
from pathlib import Path

import pytest

from tests.chaos.kills import KINDS, LONGEST_WAIT_S, Kill, chosen, draw

ROOT = Path(__file__).parents[2]
TIMEOUT_S = 1800


@pytest.mark.parametrize("layout", KINDS)
def test_a_seed_always_gives_the_same_kills_and_each_kind_comes_by_turns(layout: str) -> None:
    kinds = KINDS[layout]
    drawn = list(islice(draw(5, layout), 4 * len(kinds)))
    assert drawn == list(islice(draw(5, layout), 4 * len(kinds)))
    assert drawn != list(islice(draw(6, layout), 4 * len(kinds)))
    for start in range(0, len(drawn), len(kinds)):
        assert sorted(kill.kind for kill in drawn[start : start + len(kinds)]) == sorted(kinds)
    assert all(0 <= kill.wait_s <= LONGEST_WAIT_S[kill.phase] for kill in drawn)


@pytest.mark.parametrize("layout", KINDS)
def test_the_chosen_kills_are_of_each_kind_and_phase(layout: str) -> None:
    assert {kill.kind for kill in chosen(layout)} == set(KINDS[layout])
    assert {kill.phase for kill in chosen(layout)} == set(LONGEST_WAIT_S)


def test_a_worker_that_had_gone_home_is_killed_earlier_next_time() -> None:
    assert Kill("tag", "last", 0.7).sooner() == Kill("tag", "work", 0.7)
    for kill in (Kill("driver", "end", 0.1), Kill("tag", "soon", 3.0), Kill("tag", "work", 1.0)):
        assert kill.sooner() == kill


@pytest.mark.ray
def test_what_is_killed_is_made_up_for(tmp_path: Path) -> None:
    result = tmp_path / "chaos.json"
    environment = {name: value for name, value in os.environ.items() if name != "RAY_ADDRESS"}
    done = subprocess.run(
        [
            *(sys.executable, "-m", "tests.chaos", "--json", result, "--where", "cluster"),
            *("--chosen", "--fake-models", "--scenes", "48", "--one-reference"),
        ],
        cwd=ROOT,
        env=environment,
        stdout=subprocess.PIPE,
        stderr=subprocess.STDOUT,
        text=True,
        timeout=TIMEOUT_S,
        check=False,
    )
    assert done.returncode == 0, done.stdout
    values = json.loads(result.read_text())
    assert values["kills"] == len(chosen("pools")) == 10
    assert set(values["kills_by_kind"]) == set(KINDS["pools"])
    assert {"soon", "work", "end"} <= set(values["kills_by_phase"])
    assert (values["lost"], values["duplicated"]) == (0, 0)
    assert values["shards_identical"]
    assert values["gave_up"] == 0
