"""Two runs never write to one output at the same time."""

from __future__ import annotations

import errno
import fcntl
import os
import signal
import subprocess
import sys
from pathlib import Path

import pytest

from pad_pipeline.errors import UserError
from pad_pipeline.storage.locks import is_held, only_run_on


def test_a_second_run_is_refused_with_the_first_ones_process(tmp_path: Path) -> None:
    with only_run_on(str(tmp_path)):
        message = f"another run .*process {os.getpid()} on"
        with pytest.raises(UserError, match=message), only_run_on(str(tmp_path)):
            pass
    with only_run_on(str(tmp_path)):
        pass
    assert list(tmp_path.iterdir()) == []


def test_a_killed_run_leaves_no_lock(tmp_path: Path) -> None:
    holder = subprocess.Popen(
        [
            sys.executable,
            "-c",
            "import sys, time\n"
            "from pad_pipeline.storage.locks import only_run_on\n"
            "with only_run_on(sys.argv[1]):\n"
            "    print('held', flush=True)\n"
            "    time.sleep(60)\n",
            str(tmp_path),
        ],
        stdout=subprocess.PIPE,
    )
    assert holder.stdout is not None
    assert holder.stdout.readline() == b"held\n"
    with pytest.raises(UserError, match="another run"), only_run_on(str(tmp_path)):
        pass
    holder.send_signal(signal.SIGKILL)
    holder.wait()
    with only_run_on(str(tmp_path)):
        pass


def test_object_stores_are_not_locked() -> None:
    with only_run_on("memory://bucket/out"), only_run_on("memory://bucket/out"):
        pass


def test_others_see_whether_a_run_is_there(tmp_path: Path) -> None:
    assert is_held(str(tmp_path)) is False
    with only_run_on(str(tmp_path)):
        assert is_held(str(tmp_path)) is True
        assert [path.name for path in tmp_path.iterdir()] == ["_lock"]
        with pytest.raises(UserError, match=f"process {os.getpid()}"), only_run_on(str(tmp_path)):
            pass
        assert f"process {os.getpid()} on" in (tmp_path / "_lock").read_text()
    assert is_held(str(tmp_path)) is False
    assert is_held("memory://bucket/out") is None


@pytest.mark.parametrize("code", [errno.ENOLCK, errno.ENOSYS, errno.EOPNOTSUPP])
def test_file_systems_without_locks_are_not_covered(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, code: int
) -> None:
    def flock(descriptor: int, operation: int) -> None:
        raise OSError(code, os.strerror(code))

    monkeypatch.setattr(fcntl, "flock", flock)
    with only_run_on(str(tmp_path)), only_run_on(str(tmp_path)):
        assert is_held(str(tmp_path)) is None


def test_a_lock_that_cannot_be_taken_for_another_reason_is_an_error(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    def flock(descriptor: int, operation: int) -> None:
        raise OSError(errno.EIO, os.strerror(errno.EIO))

    monkeypatch.setattr(fcntl, "flock", flock)
    with pytest.raises(UserError, match=r"cannot lock .*Input/output error"):  # noqa: SIM117
        with only_run_on(str(tmp_path)):
            pass
