"""Members of ZIP files and tars: which names are taken, and where their bytes lie."""

from __future__ import annotations

from collections.abc import Callable, Sequence

from pad_pipeline import storage
from pad_pipeline.errors import UserError
from pad_pipeline.sources.rows import ManifestRow, split_uri


def check_member(name: str, url: str) -> None:
    """Raises `UserError` for a name that leaves the archive."""
    if name.startswith("/") or ".." in name.split("/") or not name.strip("/"):
        raise UserError(
            f"{url}: member {name!r} has a name that leaves the archive; expected relative names "
            f'without ".."'
        )


def link_message(name: str, url: str) -> str:
    """Why a member that is a link is refused."""
    return (
        f"{url}: member {name!r} is a link; expected plain files (pack again with links replaced "
        f"by their files, for tar: --dereference --hard-dereference)"
    )


def member_names(rows: Sequence[ManifestRow]) -> list[str]:
    """The name of each row's member in its container; "" for a file of its own."""
    return [chained[1] if (chained := split_uri(row.uri)) else "" for row in rows]


def member_spans(
    url: str,
    rows: Sequence[ManifestRow],
    names: Sequence[str],
    make_index: Callable[[str], dict[str, tuple[int, int]]],
) -> list[tuple[int, int] | Exception]:
    """(offset, size) of each row; the index is made only where a row does not say."""
    index: dict[str, tuple[int, int]] = {}
    if any(row.offset < 0 and row.size < 0 for row in rows):
        try:
            index = make_index(url)
        except (UserError, *storage.backend_errors()) as error:
            return [error] * len(rows)
    spans: list[tuple[int, int] | Exception] = []
    for row, name in zip(rows, names, strict=True):
        span = (row.offset, row.size) if row.offset >= 0 else index.get(name)
        spans.append(span or FileNotFoundError(f"{url} has no member {name!r}"))
    return spans
