"""Runs killed again and again until so many kills are done, and the data sets that came out."""

from __future__ import annotations

import random
import re
import subprocess
import sys
import time
from collections.abc import Callable, Sequence
from dataclasses import asdict
from pathlib import Path

import psutil
import pyarrow.parquet as pq

from pad_pipeline.scenes.writer import write_scenes
from tests.chaos import processes
from tests.chaos.command import ROWS_PER_SHARD, Command, files, shards
from tests.chaos.kills import Kill
from tests.chaos.nodes import Nodes
from tests.chaos.result import Checked, Result

STUCK_AFTER_S = 300.0
"""Nothing new for so long is a failure."""
MOST_FAILURES = 3
HUNT_S = 30.0
"""A victim that does not show for so long is left to the next start of the command."""
_POLL_S = 0.005
_COLOUR = re.compile(r"\x1b\[\d+m")
_VARIABLE = re.compile(r"\b[0-9a-f]{16,}\b|[\d.]+")
_PROCESSES_POLL_S = 0.03


class Stuck(Exception):
    """A run in which nothing moves any more."""


class Campaign:
    """`kills` done one after the other to runs in the folder `place` until none is left.

    After `minutes`, no more are begun. `module` is the Python module that is run as the command.
    """

    def __init__(
        self,
        place: Path,
        *,
        kills: Sequence[Kill],
        module: str,
        seed: int,
        num_scenes: int,
        layout: str,
        where: str,
        one_reference: bool,
        minutes: float,
        log: Callable[[str], None],
    ) -> None:
        self._place = place
        self._where = where
        self._one_reference = one_reference
        self._until_s = time.monotonic() + 60 * minutes
        self._log = log
        self._module = module
        self._todo = list(kills)
        self._postponed: list[Kill] = []
        self._rng = random.Random(seed)
        self._nodes: Nodes | None = None
        self._checked = Checked("", 0)
        self._own_raylet_killed = False
        self.result = Result(seed, layout, num_scenes)

    def run(self) -> Result:
        """Go through data sets until all kills are done; raises `Stuck`."""
        start_s = time.monotonic()
        if self._where != "local":
            self._nodes = Nodes()
        try:
            number = 0
            while self._todo or self._postponed or not number:
                self._data_set(number)
                number += 1
        finally:
            self.result.seconds = time.monotonic() - start_s
            if self._nodes:
                self._nodes.shut_down()
        return self.result

    def _data_set(self, number: int) -> None:
        # the first in the cluster, then by turns
        is_local = self._where == "local" or (self._where == "both" and number % 3 == 2)
        seed = self.result.seed + (0 if self._one_reference else number)
        images = self._scenes(seed)
        reference = self._reference(seed, images)
        where = "local" if is_local else "cluster"
        command = self._command(images, self._place / f"{number}", is_local)
        checked = self._checked = Checked(where, seed)
        self._log(f"data set {number}: {self.result.num_scenes} scenes, {where}")
        while True:
            command.start()
            checked.starts += 1
            self._own_raylet_killed = False
            is_killed = self._do_kills(command, is_local)
            code, out, lines = command.end()
            self.result.stderr.update(map(_pattern, lines))
            self.result.stdout_of_ray.update(_pattern(line) for line in out if "(raylet)" in line)
            if code == 0 and not is_killed:
                break
            if is_killed:
                continue
            if self._own_raylet_killed:
                self.result.errors_after_loss.update(lines[-1:])
                continue
            self._log("gave up: " + "\n".join(lines[-3:]))
            checked.gave_up.append("\n".join(lines[-3:]))
            if len(checked.gave_up) >= MOST_FAILURES:
                break
        self._check(command.output, reference, sorted(path.name for path in images.iterdir()))
        self.result.data_sets.append(checked)
        self._log(f"  {'right' if checked.is_right else 'WRONG'}: {asdict(checked)}")

    def _scenes(self, seed: int) -> Path:
        folder = self._place / f"scenes-{seed}"
        if not folder.exists():
            write_scenes(folder, num_images=self.result.num_scenes, seed=seed)
        return folder / "images"

    def _command(self, images: Path, output: Path, is_local: bool) -> Command:
        address = "local" if is_local or not self._nodes else self._nodes.address
        num_shards = -(-self.result.num_scenes // ROWS_PER_SHARD)
        return Command(images, output, self.result.layout, num_shards, address, self._module)

    def _reference(self, seed: int, images: Path) -> Path:
        """The data set that the command writes with one chunk in flight, undisturbed."""
        output = self._place / f"reference-{seed}"
        if not output.exists():
            command = self._command(images, output, self._where == "local")
            command.in_flight = 1
            start_s = time.monotonic()
            command.start()
            ended = command.end()
            if ended.code:
                raise Stuck("the uninterrupted run failed: " + "\n".join(ended.stderr))
            self._log(f"uninterrupted run of {images}: {time.monotonic() - start_s:.1f} s")
        return output

    def _do_kills(self, command: Command, is_local: bool) -> bool:
        """Kill one after the other until the driver ends; whether it was killed itself."""
        self._todo = self._postponed + self._todo
        self._postponed = []
        if time.monotonic() > self._until_s:
            self._todo = []
        while self._todo and command.runs:
            kill = self._todo.pop(0)
            if not self._await(command, kill):
                self._todo.insert(0, kill.sooner())  # done to the next run, as this one has ended
                return False
            if not self._do(command, kill, is_local):
                if command.runs:
                    self._postponed.append(kill)
                else:
                    self._todo.insert(0, kill.sooner())
                continue
            self._count(kill, command)
            if time.monotonic() > self._until_s:
                self._todo, self._postponed = [], []
            if kill.kind == "driver":
                return True
        self._wait(command, lambda: False)
        return False

    def _count(self, kill: Kill, command: Command) -> None:
        self.result.kills[kill.kind] += 1
        self.result.phases[kill.phase] += 1
        self._checked.kills += 1
        self._log(
            f"  {sum(self.result.kills.values())}: {kill.kind} ({kill.phase}, "
            f"{kill.wait_s:.1f} s), {command.shards_missing()} shards missing"
        )

    def _await(self, command: Command, kill: Kill) -> bool:
        """Wait for the moment of a kill; False where the run ends before it comes."""
        before = command.finished_files()
        is_begun = {
            "soon": lambda: True,
            "work": lambda: bool(command.finished_files() - before),
            "last": lambda: command.shards_missing() <= 1,
            "end": lambda: command.shards_missing() == 0,
        }[kill.phase]
        if not self._wait(command, is_begun):
            return False
        moment_s = time.time() + kill.wait_s
        return self._wait(command, lambda: time.time() >= moment_s)

    def _do(self, command: Command, kill: Kill, is_local: bool) -> bool:
        """Do it as soon as there is a victim; False where none shows."""
        if kill.kind == "driver":
            return bool(processes.kill([psutil.Process(command.pid)]))
        if kill.kind == "raylet" and not is_local:
            assert self._nodes is not None
            self._nodes.lose_one(self._rng)
            self._nodes.replace()
            return True
        until_s = time.monotonic() + HUNT_S
        killed = 0

        def hunt() -> bool:
            nonlocal killed
            if kill.kind == "raylet":
                found = processes.raylets(command.pid)
                self._own_raylet_killed |= bool(found)
            else:
                found = processes.find(kill.kind, command.began_s)
            killed = processes.kill(found[-1:])
            return bool(killed) or time.monotonic() > until_s

        self._wait(command, hunt, _PROCESSES_POLL_S)
        return bool(killed)

    def _wait(self, command: Command, until: Callable[[], bool], poll_s: float = _POLL_S) -> bool:
        """Wait; False where the run ends before. Raises `Stuck`."""
        moved_s = time.monotonic()
        before: set[str] = set()
        looked_s = 0.0
        while not until():
            if not command.runs:
                return False
            if time.monotonic() - looked_s > 1.0:
                looked_s = time.monotonic()
                there = command.finished_files()
                if there != before:
                    before, moved_s = there, looked_s
                if looked_s - moved_s > STUCK_AFTER_S:
                    processes.kill([psutil.Process(command.pid)])
                    lines = "\n".join(command.end().stderr[-10:])
                    raise Stuck(f"nothing new for {STUCK_AFTER_S:g} s; its last lines:\n{lines}")
            time.sleep(poll_s)
        return True

    def _check(self, output: Path, reference: Path, names: list[str]) -> None:
        checked = self._checked
        ids = [name for path in sorted(output.glob("*.parquet")) for name in _ids(path)]
        checked.lost = len(set(names) - set(ids))
        checked.duplicated = len(ids) - len(set(ids))
        checked.in_order = ids == names
        checked.identical = shards(output) == shards(reference)
        there, expected = files(output), files(reference)
        checked.leftovers = sorted(set(there) - set(expected))
        checked.missing = sorted(set(expected) - set(there))
        validate = [sys.executable, "-m", "pad_pipeline", "validate", str(output)]
        done = subprocess.run(validate, capture_output=True, text=True)
        checked.validates = not done.returncode
        if done.returncode:
            self._log(f"`validate` ended with {done.returncode}:\n{done.stdout}{done.stderr}")


def _ids(path: Path) -> list[str]:
    return pq.read_table(path, columns=["image_id"])["image_id"].to_pylist()


def _pattern(line: str) -> str:
    """The line without what differs from one time to the next."""
    return _VARIABLE.sub("#", _COLOUR.sub("", line))
