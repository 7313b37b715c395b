"""Tables of images, in Parquet or Arrow files, become manifest rows."""

from __future__ import annotations

import json
import logging
from collections import Counter
from collections.abc import Callable, Iterator, Sequence
from typing import Any

import pyarrow as pa

from pad_pipeline.sources.columns import Columns, images_of
from pad_pipeline.sources.conversations import CONVERSATION_KEYS
from pad_pipeline.sources.entries import caption_of
from pad_pipeline.sources.manifests import Located, make_locator
from pad_pipeline.sources.rows import ManifestRow, relative_id, stem_below
from pad_pipeline.sources.seen_ids import SeenIds

logger = logging.getLogger(__name__)

DAMAGED = (pa.ArrowException, ValueError, OverflowError, LookupError)
"""What Arrow raises on damage beside OSError: text that is not UTF-8, times out of range, columns
of one name, counts that do not fit."""

_NUM_SAMPLED = 20


class RowMaker:
    """The manifest rows of one table, batch by batch; what it skips is counted and reported.

    The id is the id column's; without one the path, or for bytes
    `<file's path below base without its ending>/<row>`. Rows of one path, or of one value in a
    column `image_id`, are about one image: the first stands for them.
    """

    def __init__(self, url: str, base: str, images: str | None, columns: Columns) -> None:
        self.row = 0
        self._url, self._images, self._columns = url, images, columns
        self._shard = stem_below(url, base)
        self._locate: Callable[[str], Located] | None = None
        self._skipped: Counter[str] = Counter()
        self._seen = SeenIds()

    def make(
        self,
        batch: pa.RecordBatch,
        counts: Sequence[int] | None,
        place: Callable[[int], Located],
    ) -> Iterator[ManifestRow]:
        """The rows of a batch that has the columns `Columns.small`.

        For bytes, `counts` is how many images each row holds, None for one in each, and `place`
        says where those of the batch's n-th row lie.
        """
        columns = self._columns
        ids, statuses = _values(batch, columns.id), _values(batch, columns.status)
        captions = {key: _values(batch, name) for key, name in columns.captions.items()}
        paths = _values(batch, columns.image) if columns.is_path else []
        found = [[_text(one) for one in images_of(path, columns.image)] for path in paths]
        if found and self._locate is None:
            sample = [path for paths in found for path in paths][:_NUM_SAMPLED]
            self._locate = make_locator(self._url, self._images, sample) if sample else None
        for n in range(batch.num_rows):
            row, self.row = self.row, self.row + 1
            num_images = len(found[n]) if columns.is_path else counts[n] if counts else 1
            if num_images != 1:
                self._skip("with several images" if num_images else "without an image", statuses[n])
                continue
            path = found[n][0] if columns.is_path else None
            name = path if ids[n] is None else str(_text(ids[n]))
            if name is None:
                image_id = f"{self._shard}/{row:08d}"
            else:
                image_id = relative_id(name)
                is_of_image = ids[n] is None or str(columns.id).lower() == "image_id"
                if is_of_image and not self._seen.add(image_id):
                    self._skip("about an image that an earlier row is about", None)
                    continue
            uri, offset, size = self._locate(path) if path and self._locate else place(n)
            yield ManifestRow(
                image_id, uri, _caption({key: v[n] for key, v in captions.items()}), offset, size
            )

    def _skip(self, reason: str, status: Any) -> None:
        self._skipped[reason if status in (None, "success") else f"{reason} ({status})"] += 1

    def report(self) -> None:
        """Log how many rows were skipped, by reason."""
        for reason, count in self._skipped.most_common():
            logger.warning("%s: skipped %s rows %s", self._url, f"{count:,}", reason)


def _caption(entry: dict[str, Any]) -> str | None:
    """The caption of a row's columns; a conversation may be there as JSON."""
    for key, value in entry.items():
        value = _text(value)
        if isinstance(value, dict):  # one text in several languages
            value = next(iter(value.values()), None)
        if key in CONVERSATION_KEYS:
            if isinstance(value, str):
                value = _parsed(value)
            if not isinstance(value, list) or not all(isinstance(turn, dict) for turn in value):
                value = None
        entry[key] = value
    return caption_of(entry)


def _parsed(text: str) -> Any:
    try:
        return json.loads(text)
    except (ValueError, RecursionError):
        return None


def _values(batch: pa.RecordBatch, name: str | None) -> list[Any]:
    if name is None:
        return [None] * batch.num_rows
    # "image.path" selects one field of a struct; the batch may hold the struct with that field.
    return batch.column(name if name in batch.schema.names else name.partition(".")[0]).to_pylist()


def _text(value: Any) -> Any:
    """Text that a writer without a type for text has stored as bytes; all else as it is."""
    return value.decode("utf-8", "backslashreplace") if isinstance(value, bytes) else value
