"""Arrow files, streams or Feather, as the datasets library saves its tables with `save_to_disk`."""

from __future__ import annotations

import functools
import json
import logging
import posixpath
from collections.abc import Callable, Iterator, Sequence
from itertools import groupby
from typing import Any

import pyarrow as pa

from pad_pipeline import storage
from pad_pipeline.errors import UserError, short_line
from pad_pipeline.sources.arrow_batches import (
    ARROW_DAMAGED,
    list_batches,
    read_column,
    read_schema,
)
from pad_pipeline.sources.columns import count_images, find_columns, image_bytes
from pad_pipeline.sources.manifests import Located
from pad_pipeline.sources.rows import NOTHING_GIVEN, Given, ManifestRow, in_container
from pad_pipeline.sources.tables import RowMaker

logger = logging.getLogger(__name__)

_STATE = "state.json"
_LARGEST_CACHED_BYTES = 128 << 20


def current_files(urls: Sequence[str]) -> list[str]:
    """Those of the Arrow files of a folder that are its data, in their order.

    In a folder of `save_to_disk` these are the files that its `state.json` names; elsewhere all but
    `cache-*.arrow`, where the datasets library keeps what `map` and `filter` made. Others are
    named in the log. Raises `UserError` where the saved rows are a selection, as old versions of
    the library kept them.
    """
    chosen: dict[str, None] = {}
    for folder, group in groupby(urls, key=posixpath.dirname):
        files = list(group)
        state = storage.join(folder, _STATE)
        named = _files_of_state(state) if storage.exists(state) else None
        for url in files:
            name = posixpath.basename(url)
            if name in named if named is not None else not name.startswith("cache-"):
                chosen[url] = None
        if left := [url for url in files if url not in chosen]:
            logger.warning(
                "%s: %d Arrow files are no part of the saved data and are not read: %s",
                *(folder, len(left), ", ".join(map(posixpath.basename, left[:5]))),
            )
    return list(chosen)


def list_arrow(
    url: str, base: str, images: str | None, given: Given = NOTHING_GIVEN
) -> Iterator[ManifestRow]:
    """A row per image of an Arrow file, as `tables.RowMaker` makes them.

    The file is read through. Rows without an image or with several are skipped and counted. Raises
    `UserError` where the file is damaged, has no usable column or is a PAD data set.
    """
    row = 0
    try:
        columns = find_columns(
            url,
            read_schema(url),
            lambda name: _all_null(url, name),
            lambda name: _first_value(url, name),
            given,
        )
        maker = RowMaker(url, base, images, columns, given)
        name = columns.image.partition(".")[0]
        for collect in (True, False) if maker.may_repeat else (False,):
            for batch, place in list_batches(url, {name, *columns.small()}):
                counts = None
                if not columns.is_path:
                    counts = count_images(batch.column(name), columns.image)
                if collect:
                    maker.collect(batch, counts)
                else:
                    yield from maker.make(batch, counts, _places(url, columns.image, place))
                row = maker.row
    except ARROW_DAMAGED as error:
        raise UserError(f"{url} is damaged near row {row}: {short_line(error)}") from error
    maker.report()


def read_arrow(url: str, members: Sequence[str]) -> list[bytes | Exception]:
    """The bytes at each `<column>/<batch>/<row>`; an exception in place of a missing one.

    The batch is the byte offset of its message in a stream, its number in a Feather file.
    """
    items: list[bytes | Exception] = [OSError("not read")] * len(members)
    wanted: dict[tuple[str, str], list[tuple[int, str]]] = {}
    for index, member in enumerate(members):
        place, _, row = member.rpartition("/")
        column, _, batch = place.rpartition("/")
        wanted.setdefault((column, batch), []).append((index, row))
    try:
        version = storage.version(url)
    except (UserError, *storage.backend_errors()) as error:
        return [error] * len(members)
    for (column, batch), places in wanted.items():
        try:
            values = _values(url, version, column, int(batch))
        except (UserError, *ARROW_DAMAGED, *storage.backend_errors()) as error:
            for index, _ in places:
                items[index] = error
            continue
        for index, row in places:
            found = int(row) < len(values) if row.isdecimal() and len(row) < 20 else False
            item = image_bytes(values[int(row)].as_py(), column) if found else None
            items[index] = item or OSError(f"{url} holds no image in row {row} of batch {batch}")
        if values.nbytes > _LARGEST_CACHED_BYTES:
            _values.cache_clear()
    return items


@functools.lru_cache(maxsize=1)
def _values(url: str, version: str, column: str, batch: int) -> pa.Array:
    """One column of one batch: consecutive calls read neighbouring rows of the same."""
    del version  # part of the key only: a file that changed is read again
    return read_column(url, column.partition(".")[0], batch)


def _all_null(url: str, column: str) -> bool:
    name = column.partition(".")[0]
    batches = list_batches(url, {name})
    return not any(any(count_images(batch.column(name), column)) for batch, _ in batches)


def _first_value(url: str, column: str) -> Any:
    """The first value of a column that is not null; None without one."""
    name = column.partition(".")[0]
    batches = list_batches(url, {name})
    values = (value.as_py() for batch, _ in batches for value in batch.column(name))
    return next((value for value in values if value), None)


def _places(url: str, column: str, batch: int) -> Callable[[int], Located]:
    return lambda n: (in_container("arrow", f"{column}/{batch}/{n}", url), batch, -1)


def _files_of_state(url: str) -> set[str] | None:
    """The names of the data files that a `state.json` lists; None where it lists none."""
    try:
        state = json.loads(storage.read_bytes(url))
        names = {str(file["filename"]) for file in state.get("_data_files") or ()}
        has_indices = bool(state.get("_indices_data_files"))
    except (ValueError, TypeError, LookupError, AttributeError, RecursionError) as error:
        raise UserError(
            f"{url} should be a JSON object that lists the folder's Arrow files under _data_files, "
            f"as save_to_disk writes it: {short_line(error)}"
        ) from error
    if has_indices:
        raise UserError(
            f"{url} selects rows by a file of indices, as old versions of the datasets library "
            "saved a selection; load it and save it with a current version"
        )
    return names or None
