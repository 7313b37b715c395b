"""Two runs never write to one output at the same time."""

from __future__ import annotations

import os
import signal
import subprocess
import sys
from pathlib import Path

import pytest

from pad_pipeline.errors import UserError
from pad_pipeline.storage.locks import only_run_on


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
