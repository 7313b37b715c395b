"""ZIP files: offsets, compression, damage."""

from __future__ import annotations

import io
import re
import zipfile
from pathlib import Path

import pytest

from pad_pipeline import storage
from pad_pipeline.errors import UserError
from pad_pipeline.sources import read_many
from tests.sources.samples import by_id, image, listed, write, zipped

FILES = {"00000/1.jpg": image(1), "ä b\n.PNG": image(2), "deep/er/3.webp": image(3) * 50}


OTHERS = {"notes.txt": b"?", ".hidden.jpg": b"?", "__MACOSX/._1.jpg": b"?", "__MACOSX/x.jpg": b"?"}


@pytest.mark.parametrize(
    "compression", [zipfile.ZIP_STORED, zipfile.ZIP_DEFLATED, zipfile.ZIP_BZIP2]
)
def test_zip(root: str, compression: int) -> None:
    write(root, {"x.zip": zipped(FILES | OTHERS, compression)})
    source = storage.join(root, "x.zip")
    rows = listed(source)
    assert by_id(rows) == FILES
    assert rows[0].uri == f"zip://00000/1.jpg::{source}"
    assert [row.image_id for row in rows] == list(FILES)  # the archive's own order


def test_zip_offsets_hold_for_streamed_and_prefixed_archives(tmp_path: Path) -> None:
    """Sizes behind the data (as when zipping to a pipe), extra fields, bytes before the archive."""

    class Pipe(io.RawIOBase):
        def __init__(self) -> None:
            self.data = bytearray()

        def writable(self) -> bool:
            return True

        def write(self, data: bytes) -> int:  # type: ignore[override]
            self.data += data
            return len(data)

    pipe = Pipe()
    with zipfile.ZipFile(pipe, "w", zipfile.ZIP_DEFLATED) as archive:  # type: ignore[arg-type]
        for name, data in FILES.items():
            member = zipfile.ZipInfo(name)
            member.extra = b"\xfe\xca" + (500).to_bytes(2, "little") + b"x" * 500
            with archive.open(member, "w", force_zip64=True) as file:
                file.write(data)
    (tmp_path / "x.zip").write_bytes(b"#!/bin/sh\n" * 20 + bytes(pipe.data))
    assert by_id(listed(f"{tmp_path}/x.zip")) == FILES


def test_an_unreadable_zip_member_is_an_item_that_fails(root: str) -> None:
    data = bytearray(zipped(FILES, zipfile.ZIP_DEFLATED))
    at = data.index(b"00000/1.jpg") + len("00000/1.jpg")
    data[at + 5] ^= 0xFF
    write(root, {"x.zip": bytes(data), "lzma.zip": zipped(FILES, zipfile.ZIP_LZMA)})
    items = list(by_id(listed(storage.join(root, "x.zip"))).values())
    assert re.search("'00000/1.jpg' of .* is damaged", str(items[0]))
    assert items[1:] == list(FILES.values())[1:]
    for item in by_id(listed(storage.join(root, "lzma.zip"))).values():
        assert "compression method 14" in str(item)


def test_a_wrong_checksum_is_noticed(tmp_path: Path) -> None:
    data = bytearray(zipped(FILES))
    data[data.index(image(1)) + 20] ^= 1
    (tmp_path / "x.zip").write_bytes(data)
    items = list(by_id(listed(f"{tmp_path}/x.zip")).values())
    assert "checksum" in str(items[0])
    assert items[1:] == list(FILES.values())[1:]


def test_a_password_is_named(tmp_path: Path) -> None:
    data = bytearray(zipped(FILES))
    for magic, at in ((b"PK\x03\x04", 6), (b"PK\x01\x02", 8)):
        start = 0
        while (start := data.find(magic, start)) >= 0:
            data[start + at] |= 1
            start += 1
    (tmp_path / "x.zip").write_bytes(data)
    assert all("password" in str(item) for item in by_id(listed(f"{tmp_path}/x.zip")).values())


def test_a_zip_that_changed_after_listing(tmp_path: Path) -> None:
    (tmp_path / "x.zip").write_bytes(zipped(FILES))
    rows = listed(f"{tmp_path}/x.zip")
    (tmp_path / "x.zip").write_bytes(b"x" * 100 + zipped(FILES))
    assert all("did the archive change" in str(item) for item in read_many(rows))
    (tmp_path / "x.zip").unlink()
    assert all(isinstance(item, FileNotFoundError) for item in read_many(rows))


def test_zips_that_are_none(root: str) -> None:
    whole = zipped(FILES)
    for data in (b"", b"no zip", whole[: len(whole) // 2], whole[:-30]):
        write(root, {"x.zip": data})
        with pytest.raises(UserError, match=r"x\.zip is no"):
            listed(storage.join(root, "x.zip"))
    write(root, {"x.zip": zipped(OTHERS)})
    with pytest.raises(UserError, match="no images in"):
        listed(storage.join(root, "x.zip"))


def test_a_member_that_was_added_again_replaces_the_first(
    root: str, caplog: pytest.LogCaptureFixture
) -> None:
    buffer = io.BytesIO()
    with zipfile.ZipFile(buffer, "w") as archive:
        archive.writestr("a.jpg", image(1))
        with pytest.warns(UserWarning, match="Duplicate"):
            archive.writestr("a.jpg", image(2))
    write(root, {"x.zip": buffer.getvalue()})
    assert by_id(listed(storage.join(root, "x.zip"))) == {"a.jpg": image(2)}
    assert "1 members replace earlier ones of their name" in caplog.text
