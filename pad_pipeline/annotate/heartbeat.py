"""What a running command writes of itself every few seconds, for `status` to read."""

from __future__ import annotations

import json
import logging
import os
import socket
import threading
import time
from collections.abc import Callable, Mapping
from types import TracebackType
from typing import Any, Literal

from pad_pipeline import storage
from pad_pipeline.annotate.run_files import status_url
from pad_pipeline.errors import UserError

logger = logging.getLogger(__name__)

INTERVAL_S = 5.0
REMOTE_INTERVAL_S = 20.0


class Heartbeat:
    """Writes what `describe` gives to the run's status file while the block lasts, and its end."""

    def __init__(self, output: str, describe: Callable[[], Mapping[str, Any]]) -> None:
        self._url = status_url(output)
        self._describe = describe
        is_here = storage.local_path(output) is not None
        self._interval_s = INTERVAL_S if is_here else REMOTE_INTERVAL_S
        self._ended = threading.Event()
        self._thread = threading.Thread(target=self._beat, daemon=True)
        self._is_failing = False

    def __enter__(self) -> Heartbeat:
        self._write("running", None)
        self._thread.start()
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, _: TracebackType | None
    ) -> None:
        self._ended.set()
        self._thread.join()
        if error is not None:
            reason = str(error) if isinstance(error, UserError) else type(error).__name__
            self._write("interrupted", reason)

    def _beat(self) -> None:
        while not self._ended.wait(self._interval_s):
            self._write("running", None)

    def _write(self, state: Literal["running", "interrupted"], reason: str | None) -> None:
        values = {
            "state": state,
            "reason": reason,
            "written_at": time.time(),
            "interval_s": self._interval_s,
            "where": f"process {os.getpid()} on {socket.gethostname()}",
            **self._describe(),
        }
        try:
            storage.write_atomic(self._url, (json.dumps(values, indent=2) + "\n").encode())
        except UserError as error:
            # the run itself goes on: its records have retries of their own
            if not self._is_failing:
                logger.warning("`pad-pipeline status` will be out of date: %s", error)
            self._is_failing = True
        else:
            self._is_failing = False
