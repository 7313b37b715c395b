"""What differs between the images of a source then and now, in words."""

from __future__ import annotations

from collections.abc import Sequence

import pyarrow as pa

_NUM_NAMED = 3


def describe_changes(before: pa.Table, now: pa.Table) -> str:
    """What was added, is gone, was renamed or is otherwise different, with the first names.

    Both tables have the columns `image_id` and `caption`, and `size` where it is known.
    """
    then, there = _by_id(before), _by_id(now)
    gone = [name for name in then if name not in there]
    added = [name for name in there if name not in then]
    renamed = _renamed(then, there, gone, added)
    gone = [name for name in gone if name not in renamed]
    added = [name for name in added if name not in renamed.values()]
    both = [name for name in then if name in there]
    parts = [
        _counted(added, "added"),
        _counted(gone, "gone"),
        _counted([f"{old} is {new}" for old, new in renamed.items()], "renamed"),
        _counted([n for n in both if then[n][0] != there[n][0]], "with another caption"),
        _counted([n for n in both if _resized(then[n][1], there[n][1])], "of another size"),
    ]
    found = [part for part in parts if part]
    if not found:
        found = ["the images are the same in another order"]
    return f"it had {before.num_rows:,} images and has {now.num_rows:,}: {'; '.join(found)}"


def _by_id(images: pa.Table) -> dict[str, tuple[str | None, int]]:
    """Caption and size (-1: not known) by id, in the images' order."""
    names = images["image_id"].to_pylist()
    captions = images["caption"].to_pylist()
    sizes = images["size"].to_pylist() if "size" in images.column_names else [-1] * len(names)
    return dict(zip(names, zip(captions, sizes, strict=True), strict=True))


def _renamed(
    then: dict[str, tuple[str | None, int]],
    there: dict[str, tuple[str | None, int]],
    gone: Sequence[str],
    added: Sequence[str],
) -> dict[str, str]:
    """Old names to new ones, where exactly one image went and one came of a size and caption."""
    old, new = _unique(then, gone), _unique(there, added)
    return {old[key]: new[key] for key in old.keys() & new.keys()}


def _unique(
    images: dict[str, tuple[str | None, int]], names: Sequence[str]
) -> dict[tuple[str | None, int], str]:
    found: dict[tuple[str | None, int], list[str]] = {}
    for name in names:
        if images[name][1] >= 0:
            found.setdefault(images[name], []).append(name)
    return {key: of_key[0] for key, of_key in found.items() if len(of_key) == 1}


def _resized(before: int, now: int) -> bool:
    return before >= 0 and now >= 0 and before != now


def _counted(names: Sequence[str], what: str) -> str:
    if not names:
        return ""
    more = ", …" if len(names) > _NUM_NAMED else ""
    return f"{len(names):,} {what} ({', '.join(names[:_NUM_NAMED])}{more})"
