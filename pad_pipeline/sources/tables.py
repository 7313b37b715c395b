"""Tables of images, in Parquet or Arrow files, become manifest rows."""

from __future__ import annotations

import json
import logging
from collections import Counter
from collections.abc import Callable, Iterable, Iterator, Sequence
from dataclasses import dataclass
from typing import Any

import pyarrow as pa

from pad_pipeline.errors import plural
from pad_pipeline.given import read_regions
from pad_pipeline.sources.columns import Columns, images_of
from pad_pipeline.sources.conversations import CONVERSATION_KEYS
from pad_pipeline.sources.entries import as_tags, captions_of
from pad_pipeline.sources.manifests import Located, make_locator
from pad_pipeline.sources.rows import (
    NOTHING_GIVEN,
    Given,
    ManifestRow,
    captioned,
    relative_id,
    stem_below,
)
from pad_pipeline.sources.seen_ids import SeenIds

logger = logging.getLogger(__name__)

DAMAGED = (pa.ArrowException, ValueError, OverflowError, LookupError)
"""What Arrow raises on damage beside OSError: text that is not UTF-8, times out of range, columns
of one name, counts that do not fit."""

_NUM_SAMPLED = 20


_REPEATED = "about an image that an earlier row is about"


@dataclass(frozen=True, slots=True)
class _Row:
    """The n-th row of a batch, where it is about one image; `names_image` as in JSON's entries."""

    n: int
    image_id: str
    path: str | None
    names_image: bool
    captions: tuple[str, ...]
    given: dict[str, Any]


class RowMaker:
    """The manifest rows of one table, batch by batch; what it skips is counted and reported.

    The id is the id column's; without one the path, or for bytes
    `<file's path below base without its ending>/<row>`. Rows of one path, or of one value in a
    column `image_id`, are about one image: the first stands for them, with the captions of all,
    where a first reading of the table has collected these.
    """

    def __init__(
        self, url: str, base: str, images: str | None, columns: Columns, given: Given
    ) -> None:
        self.row = 0
        self._url, self._images, self._columns, self._given = url, images, columns, given
        self._shard = stem_below(url, base)
        self._locate: Callable[[str], Located] | None = None
        self._skipped: Counter[str] = Counter()
        self._seen = SeenIds()
        self._further: dict[str, list[str]] = {}
        self._collected = SeenIds()

    @property
    def may_repeat(self) -> bool:
        """Whether several rows can be about one image."""
        return (self._columns.id is None and self._columns.is_path) or self._names_image

    @property
    def _names_image(self) -> bool:
        return str(self._columns.id).lower() == "image_id"

    def collect(self, batch: pa.RecordBatch, counts: Sequence[int] | None) -> None:
        """Take note of the captions of rows about an image that an earlier row is about.

        To be called with all batches before the first `make`.
        """
        for row in self._read(batch, counts, Counter(), NOTHING_GIVEN):
            if row.names_image and not self._collected.add(row.image_id):
                self._further.setdefault(row.image_id, []).extend(row.captions)

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
        rows: Iterable[_Row] = self._read(batch, counts, self._skipped, self._given)
        if self._columns.is_path and self._locate is None:
            rows = list(rows)
            sample = [row.path for row in rows if row.path][:_NUM_SAMPLED]
            self._locate = make_locator(self._url, self._images, sample) if sample else None
        first = self.row
        for row in rows:
            self.row = first + row.n + 1
            if row.names_image and not self._seen.add(row.image_id):
                self._skip(self._skipped, _REPEATED, None)
                continue
            captions = (*row.captions, *self._further.pop(row.image_id, ()))
            uri, offset, size = (
                self._locate(row.path) if row.path and self._locate else place(row.n)
            )
            yield ManifestRow(
                row.image_id, uri, offset=offset, size=size, **captioned(captions), **row.given
            )
        self.row = first + batch.num_rows

    def _read(
        self,
        batch: pa.RecordBatch,
        counts: Sequence[int] | None,
        skipped: Counter[str],
        given: Given,
    ) -> Iterator[_Row]:
        """The rows about one image; the others are counted."""
        columns, first = self._columns, self.row
        ids, statuses = _values(batch, columns.id), _values(batch, columns.status)
        captions = {key: _values(batch, name) for key, name in columns.captions.items()}
        paths = _values(batch, columns.image) if columns.is_path else []
        tags = _values(batch, given.tags)
        boxes = _values(batch, given.box_column)
        found = [[_text(one) for one in images_of(path, columns.image)] for path in paths]
        for n in range(batch.num_rows):
            num_images = len(found[n]) if columns.is_path else counts[n] if counts else 1
            if num_images != 1:
                reason = "with several images" if num_images else "without an image"
                self._skip(skipped, reason, statuses[n])
                continue
            path = found[n][0] if columns.is_path else None
            name = path if ids[n] is None else str(_text(ids[n]))
            number = first + n
            fields: dict[str, Any] = {}
            if given.tags is not None:
                fields["tags"] = as_tags(tags[n], f"{self._url}: row {number}")
            if given.box_column is not None:
                where = f"{self._url}: row {number}"
                fields["regions"] = read_regions(boxes[n], where, given.box_format)
            yield _Row(
                n,
                f"{self._shard}/{number:08d}" if name is None else relative_id(name),
                path,
                name is not None and (ids[n] is None or self._names_image),
                _captions({key: v[n] for key, v in captions.items()}),
                fields,
            )

    def _skip(self, skipped: Counter[str], reason: str, status: Any) -> None:
        skipped[reason if status in (None, "success") else f"{reason} ({status})"] += 1

    def report(self) -> None:
        """Log how many rows were skipped, by reason."""
        if count := self._skipped.pop(_REPEATED, 0):
            logger.info(
                "%s: %s about an image that an earlier one is about; it is annotated once, with "
                "the captions of all",
                self._url,
                plural(count, "row is", "rows are"),
            )
        for reason, count in self._skipped.most_common():
            logger.warning("%s: skipped %s rows %s", self._url, f"{count:,}", reason)


def _captions(entry: dict[str, Any]) -> tuple[str, ...]:
    """The captions of a row's columns; a conversation may be there as JSON."""
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
    return captions_of(entry)


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
