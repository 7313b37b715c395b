"""The command that is killed: how it is started, how far its data set is, what it wrote."""

from __future__ import annotations

import os
import subprocess
import sys
import time
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import NamedTuple

from pad_pipeline.annotate.run_files import RUN

ROWS_PER_SHARD = 16
CHUNK_SIZE = 2


class Ended(NamedTuple):
    """How one start of the command ended, and the lines that it wrote."""

    code: int
    stdout: list[str]
    stderr: list[str]


@dataclass
class Command:
    """`pad-pipeline annotate` on one output; may be started again and again."""

    images: Path
    output: Path
    layout: str
    num_shards: int
    address: str
    """Of the cluster to join, or "local" for a Ray of its own."""
    module: str = "pad_pipeline"
    """What is run as the command; another one has the same arguments."""
    in_flight: int = 2
    """Chunks that each worker has in hand."""
    process: subprocess.Popen[bytes] | None = None
    began_s: float = 0.0
    """When it was last started (epoch)."""

    def start(self) -> None:
        """Start it, with stdout and stderr in files beside the output."""
        self.began_s = time.time()
        with self._file("stdout").open("wb") as stdout, self._file("stderr").open("wb") as stderr:
            self.process = subprocess.Popen(
                [
                    *(sys.executable, "-m", self.module, "annotate", self.images, self.output),
                    *(
                        "--preset",
                        "demo",
                        "--layout",
                        self.layout,
                        "--in-flight",
                        str(self.in_flight),
                    ),
                    *("--chunk-size", str(CHUNK_SIZE), "--rows-per-shard", str(ROWS_PER_SHARD)),
                ],
                env={**os.environ, "RAY_ADDRESS": self.address, "OMP_NUM_THREADS": "1"},
                stdout=stdout,
                stderr=stderr,
            )

    @property
    def runs(self) -> bool:
        """Whether it was started and has not ended."""
        return self.process is not None and self.process.poll() is None

    @property
    def pid(self) -> int:
        """Its process, running or not."""
        assert self.process is not None
        return self.process.pid

    def end(self) -> Ended:
        """Wait for its end."""
        assert self.process is not None
        code = self.process.wait()
        texts = [self._file(name).read_text(errors="replace") for name in ("stdout", "stderr")]
        return Ended(code, *(text.splitlines() for text in texts))

    def finished_files(self) -> set[str]:
        """Names of parts and shards that are there."""
        parts = self.output.glob(f"{RUN}/progress/*/*.parquet")
        return {path.name for path in (*parts, *self.output.glob("*.parquet"))}

    def shards_missing(self) -> int:
        """Number of shards that are not there yet."""
        return self.num_shards - len(list(self.output.glob("*.parquet")))

    def _file(self, suffix: str) -> Path:
        return self.output.with_name(f"{self.output.name}.{suffix}")


def shards(output: Path) -> dict[str, bytes]:
    """The finished shards by name."""
    return {path.name: path.read_bytes() for path in sorted(output.glob("*.parquet"))}


def files(output: Path) -> list[str]:
    """All that lies in the folder of a data set."""
    return sorted(str(path.relative_to(output)) for path in output.rglob("*"))


def environment_of_tests(place: Path) -> Mapping[str, str]:
    """Variables that keep a Ray started under `place` apart from all others of this machine."""
    return {
        "RAY_TMPDIR": str(place),
        "RAY_worker_niceness": "0",
        "RAY_USAGE_STATS_ENABLED": "0",
    }
