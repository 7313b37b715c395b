"""The file of a review: read as others write to it, and written line by line."""

from __future__ import annotations

import threading
import time
from collections.abc import Callable

from pad_pipeline import storage
from pad_pipeline.errors import Setting, UserError
from pad_pipeline.review.events import Event, parse_events
from pad_pipeline.review.marks import Marks
from pad_pipeline.storage.appending import lines_file

NAME = "_review.jsonl"
"""Of the file in the folder of a data set."""
REMOTE_READ_PERIOD_S = 2.0


def review_url(dataset: str, named: str | None) -> str:
    """Where the review of a data set is: the named file, else the one beside its shards.

    That of a COCO file, which the viewer shows too, is beside it: `labels_review.jsonl`.
    """
    if named is not None:
        return named
    stem = dataset.removesuffix(".json")
    return stem + NAME if stem != dataset else storage.join(dataset, NAME)


def read_marks(url: str) -> Marks:
    """What the review at `url` says; raises `UserError` where there is none, or no review."""
    _check_there(url)
    return ReviewLog(url).marks()


def review_version(url: str) -> str:
    """A text that differs once somebody has marked; raises `UserError` where there is none."""
    _check_there(url)
    return storage.version(url)


def _check_there(url: str) -> None:
    if not storage.exists(url):
        raise UserError(
            f"there is no review at {url}: mark regions in `pad-pipeline view`, or name its file "
            "with ",
            Setting("review"),
        )


class ReviewLog:
    """A review that is read and written at once; usable from any thread.

    The file is made by the first event.
    """

    def __init__(self, url: str, *, clock: Callable[[], float] = time.monotonic) -> None:
        self.url = url
        self._file = lines_file(url)
        self._period_s = 0.0 if storage.local_path(url) else REMOTE_READ_PERIOD_S
        self._clock = clock
        self._read_at_s: float | None = None
        self._num_lines = 0
        self._marks = Marks()
        self._lock = threading.Lock()

    def marks(self) -> Marks:
        """What the file says now, or on S3 said a moment ago.

        Raises `UserError` where it cannot be read, or a line of it is no event.
        """
        with self._lock:
            now = self._clock()
            if self._read_at_s is None or now - self._read_at_s >= self._period_s:
                self._read()
                self._read_at_s = now
            return self._marks

    def write(self, event: Event) -> Marks:
        """Adds an event, so that nothing that others add is lost; what the review says then.

        Raises `UserError` where the file cannot be written, or was not readable before.
        """
        with self._lock:
            self._read()
            self._file.append(event.to_line())
            self._read()
            return self._marks

    def _read(self) -> None:
        new = self._file.read_new()
        if new is None:  # somebody has put another file there
            self._forget()
            new = self._file.read_new() or b""
        try:
            events = list(parse_events(new, self.url, self._num_lines))
        except UserError:
            self._forget()  # the next reader is told so too, until the file is mended
            raise
        for event in events:
            self._marks.add(event)
        self._num_lines += new.count(b"\n")

    def _forget(self) -> None:
        self._file, self._marks, self._num_lines = lines_file(self.url), Marks(), 0
