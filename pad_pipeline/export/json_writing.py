"""JSON files written record by record, for the exports that are one file."""

from __future__ import annotations

import json
from collections.abc import Iterable
from typing import Any, BinaryIO

from pad_pipeline.errors import UserError


def write_array(file: BinaryIO, items: Iterable[dict[str, Any]]) -> None:
    """Writes the items as a JSON array, one per line."""
    file.write(b"[")
    separator = b"\n"
    for item in items:
        file.write(separator + json_bytes(item))
        separator = b",\n"
    file.write(b"\n]")


def json_bytes(item: dict[str, Any]) -> bytes:
    """One line of JSON; raises `UserError` where a number is not finite, which JSON cannot hold."""
    try:
        text = json.dumps(item, ensure_ascii=False, allow_nan=False)
    except ValueError as error:
        name = item.get("image_id", item.get("id"))
        raise UserError(
            f"image {name} has a box or score that is not finite; `pad-pipeline validate` "
            "lists such records"
        ) from error
    return text.encode("utf-8", "surrogatepass")
