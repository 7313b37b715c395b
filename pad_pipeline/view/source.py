"""A data set that is shown: its index, made anew when shards are added, and its records."""

from __future__ import annotations

import logging
import threading
import time
from collections.abc import Callable
from functools import lru_cache

from pad_pipeline import storage
from pad_pipeline.dataset.reader import read_row
from pad_pipeline.errors import UserError
from pad_pipeline.records import PadRecord
from pad_pipeline.view.index import Contents, build, scan
from pad_pipeline.view.labels import folder_of_data_set
from pad_pipeline.view.queries import Index, Row

logger = logging.getLogger(__name__)

SCAN_PERIOD_S = 5.0
REMOTE_SCAN_PERIOD_S = 30.0
_RECORDS_KEPT = 64
_BUILD_PAUSE = 10
"""Between two builds, as a multiple of the time that the last one took."""


class DataSet:
    """One data set, or a COCO file, and what is known of it now; usable from any thread.

    Making one builds the index where the cache does not have it, which takes a while for a large
    data set, and raises `UserError` where there is no data set.
    """

    def __init__(self, url: str, *, clock: Callable[[], float] = time.monotonic) -> None:
        self.url = url
        self.folder = folder_of_data_set(url)
        self._clock = clock
        self._period_s = SCAN_PERIOD_S if storage.local_path(url) else REMOTE_SCAN_PERIOD_S
        self._lock = threading.Lock()
        self._is_scanning = False
        self.contents: Contents = scan(self.folder)
        self.index = Index(build(self.contents))
        self._retired: Index | None = None
        self._scanned_at_s = clock()
        self._build_s = 0.0
        self.record = lru_cache(maxsize=_RECORDS_KEPT)(self._record)

    @property
    def is_growing(self) -> bool:
        """Whether the run that writes it has not finished."""
        return self.contents.state == "running"

    def refresh(self) -> None:
        """Scan the folder, every few seconds at most, and make a new index in the background.

        Pages show what was there before until the new index is ready.
        """
        with self._lock:
            # A run that writes all the time is not slowed down by an index that is always made.
            pause_s = max(self._period_s, _BUILD_PAUSE * self._build_s)
            if self._is_scanning or self._clock() - self._scanned_at_s < pause_s:
                return
            self._is_scanning = True
        threading.Thread(target=self.update, daemon=True, name="view-index").start()

    def update(self) -> None:
        """Scan now, and take the new index once it is made."""
        try:
            contents = scan(self.folder)
            if contents.key != self.contents.key:
                began = self._clock()
                fresh = Index(build(contents))
                # The old index stays open for the requests that are using it, until the next one.
                if self._retired is not None:
                    self._retired.close()
                self._retired = self.index
                self.index, self.contents = fresh, contents
                self.record.cache_clear()
                self._build_s = self._clock() - began
        except UserError as error:
            logger.warning("the pages show what was there before: %s", error)
        finally:
            with self._lock:
                self._scanned_at_s = self._clock()
                self._is_scanning = False

    def record_of(self, row: Row) -> PadRecord:
        """The whole record of a row of the index, with masks.

        Raises `UserError` where the shard cannot be read, or was written again.
        """
        name = self.index.shard_names[row["shard"]]
        found = self.record(name, row["shard_row"])
        if found.image_id != row["image_id"]:
            raise UserError(f"the shard {name} was written again: reload the page in a moment")
        return found

    def _record(self, shard: str, number: int) -> PadRecord:
        return read_row(storage.join(self.folder, shard), number)
