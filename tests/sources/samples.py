"""Small images and containers made for the tests."""

from __future__ import annotations

import io
import json
import tarfile
import zipfile
from collections.abc import Iterable, Mapping
from typing import Any

from PIL import Image

from pad_pipeline import storage
from pad_pipeline.sources import ManifestRow, list_source, read_many


def image(seed: int = 0) -> bytes:
    """A PNG that differs from those of other seeds."""
    buffer = io.BytesIO()
    Image.new("RGB", (4 + seed % 3, 3), (seed % 256, seed // 256 % 256, 7)).save(buffer, "PNG")
    return buffer.getvalue()


def write(root: str, files: Mapping[str, bytes]) -> None:
    """Writes files below `root`."""
    for name, data in files.items():
        storage.write_atomic(storage.join(root, name), data)


def write_json(url: str, value: Any) -> str:
    storage.write_atomic(url, json.dumps(value, indent=2).encode())
    return url


def write_lines(url: str, values: Iterable[Any]) -> str:
    storage.write_atomic(url, "".join(json.dumps(value) + "\n" for value in values).encode())
    return url


def zipped(files: Mapping[str, bytes], compression: int = zipfile.ZIP_STORED) -> bytes:
    buffer = io.BytesIO()
    with zipfile.ZipFile(buffer, "w", compression) as archive:
        for name, data in files.items():
            archive.writestr(name, data)
    return buffer.getvalue()


def tarred(files: Iterable[tuple[str, bytes]], form: int = tarfile.PAX_FORMAT) -> bytes:
    buffer = io.BytesIO()
    with tarfile.open(fileobj=buffer, mode="w", format=form) as archive:
        for name, data in files:
            member = tarfile.TarInfo(name)
            member.size = len(data)
            archive.addfile(member, io.BytesIO(data))
    return buffer.getvalue()


def llava(image_path: str | None, caption: str) -> dict[str, Any]:
    """An entry of LLaVA's pre-training file."""
    entry: dict[str, Any] = {
        "id": "000",
        "conversations": [
            {"from": "human", "value": "Describe.\n<image>"},
            {"from": "gpt", "value": caption},
        ],
    }
    return entry if image_path is None else {**entry, "image": image_path}


def listed(source: str, **options: Any) -> list[ManifestRow]:
    """The rows; the same twice."""
    rows = list(list_source(source, **options))
    assert rows == list(list_source(source, **options))
    return rows


def by_id(rows: list[ManifestRow]) -> dict[str, bytes | Exception]:
    """What reading the rows gives, also through their uri alone and in another order."""
    items = read_many(rows)
    alone = read_many([ManifestRow("", row.uri, None) for row in reversed(rows)])
    for item, other in zip(items, reversed(alone), strict=True):
        assert item == other or isinstance(item, Exception) == isinstance(other, Exception)
    return {row.image_id: item for row, item in zip(rows, items, strict=True)}
