"""The Slurm script with stand-ins for Slurm, Ray and the program: order, token, signals."""

from __future__ import annotations

import os
import signal
import stat
import subprocess
import sys
import time
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path

import pytest

SCRIPT = Path(__file__).parents[2] / "deploy" / "slurm" / "annotate.sbatch"
TIMEOUT_S = 60

STAND_INS = {
    # prints the nodes, or notes a requeue
    "scontrol": """
if [ "$1" = show ]; then printf 'alpha\\nbeta\\ngamma\\n'; else echo "$@" >> "$NOTES/scontrol"; fi
""",
    # drops its own options, and records where it would have run
    "srun": """
while [ "${1#--}" != "$1" ]; do
    case "$1" in --nodelist=*) export NODE="${1#--nodelist=}";; esac
    shift
done
exec "$@"
""",
    "hostname": "echo 10.0.0.7 fe80::1",
    "ray": """
echo "$NODE: $*" >> "$NOTES/ray"
exec sleep 300
""",
    # the check that waits for the nodes reads its program from stdin
    "python": """
if [ "$1" = - ]; then
    cat > /dev/null
    echo "$2 $3" > "$NOTES/awaited"
    until [ "$(wc -l < "$NOTES/ray")" = "$3" ]; do sleep 0.05; done
    exit "${AWAIT_CODE:-0}"
fi
exec "$PYTHON" "$@"
""",
    "pad-pipeline": """
stat -c %a "$RAY_AUTH_TOKEN_PATH" > "$NOTES/mode"
cp "$RAY_AUTH_TOKEN_PATH" "$NOTES/token"
trap 'echo stopped > "$NOTES/driver"; exit 130' TERM
echo "$RAY_AUTH_MODE $*" > "$NOTES/annotate"
[ -z "$WORK" ] && exit "${CODE:-0}"
for _ in $(seq 600); do sleep 0.1; done
""",
}


@dataclass(frozen=True)
class Place:
    """Where the script runs: the stand-ins' notes and the folder of its tokens."""

    notes: Path
    tokens: Path
    environment: dict[str, str]

    def note(self, name: str) -> str:
        return (self.notes / name).read_text()

    def start(self, *options: str, **variables: str) -> subprocess.Popen[str]:
        return subprocess.Popen(
            ["bash", str(SCRIPT), *options],
            env={**self.environment, **variables},
            stdout=subprocess.PIPE,
            stderr=subprocess.STDOUT,
            text=True,
        )


@pytest.fixture
def place(tmp_path: Path) -> Place:
    programs, notes, tokens = (tmp_path / name for name in ("bin", "notes", "tokens"))
    for folder in (programs, notes):
        folder.mkdir()
    (notes / "ray").touch()
    for name, body in STAND_INS.items():
        program = programs / name
        program.write_text(f"#!/bin/bash\n{body}")
        program.chmod(program.stat().st_mode | stat.S_IXUSR)
    environment = {
        **{name: value for name, value in os.environ.items() if not name.startswith("RAY_")},
        "PATH": f"{programs}{os.pathsep}{os.environ['PATH']}",
        "PYTHON": sys.executable,
        "NOTES": str(notes),
        "PAD_TOKEN_FOLDER": str(tokens),
        "SLURM_JOB_ID": "4711",
        "SLURM_JOB_NODELIST": "[alpha-gamma]",
        "SOURCE": "/shared/with space",
        "OUTPUT": "/shared/out",
    }
    return Place(notes, tokens, environment)


def wait_for(there: Callable[[], bool]) -> None:
    deadline = time.monotonic() + TIMEOUT_S
    while not there():
        assert time.monotonic() < deadline
        time.sleep(0.05)


def test_head_workers_and_run_share_a_token_of_their_own(place: Place) -> None:
    job = place.start("--preset", "demo")
    output, _ = job.communicate(timeout=TIMEOUT_S)
    assert job.returncode == 0, output
    started = sorted(place.note("ray").splitlines())
    assert [line.split(":")[0] for line in started] == ["alpha", "beta", "gamma"]
    assert "--head" in started[0]
    assert all("--address=10.0.0.7:24711" in line for line in started[1:])
    assert place.note("awaited").split() == ["10.0.0.7:24711", "3"]
    noted = place.note("annotate").strip()
    assert noted.startswith("token annotate /shared/with space /shared/out --ray-address 10.0.0.7:")
    assert noted.endswith("--preset demo")
    assert place.note("mode").strip() == "600"
    token = place.note("token")
    assert len(token) == 64
    assert token not in output + "".join(started) + noted
    assert list(place.tokens.iterdir()) == []
    assert not (place.notes / "scontrol").exists()


def test_the_signal_before_the_time_limit_stops_the_run_and_queues_the_job_again(
    place: Place,
) -> None:
    job = place.start(WORK="long")
    wait_for((place.notes / "annotate").exists)
    job.send_signal(signal.SIGTERM)
    output, _ = job.communicate(timeout=TIMEOUT_S)
    assert job.returncode == 130, output
    assert place.note("driver").strip() == "stopped"
    assert place.note("scontrol").split() == ["requeue", "4711"]
    assert list(place.tokens.iterdir()) == []


def test_an_error_of_the_run_is_the_jobs_and_is_not_repeated(place: Place) -> None:
    job = place.start(CODE="3")
    output, _ = job.communicate(timeout=TIMEOUT_S)
    assert job.returncode == 3, output
    assert not (place.notes / "scontrol").exists()


def test_nothing_is_run_where_the_nodes_do_not_come_together(place: Place) -> None:
    job = place.start(AWAIT_CODE="1")
    output, _ = job.communicate(timeout=TIMEOUT_S)
    assert job.returncode == 1, output
    assert not (place.notes / "annotate").exists()
    assert list(place.tokens.iterdir()) == []
