"""Archives made to harm: bombs, lying sizes, circular headers, names and places that are none."""

from __future__ import annotations

import bz2
import io
import json
import os
import struct
import tarfile
import tracemalloc
import zipfile
import zlib
from pathlib import Path

import pytest

from pad_pipeline.errors import UserError
from pad_pipeline.images import ImageError, decode_image
from pad_pipeline.sources import ManifestRow, read_many
from tests.fuzz import seeds
from tests.fuzz.targets import read_source
from tests.sources.samples import image, listed, llava, tarred, zipped

BOMB = bytes(130 << 20)


@pytest.mark.parametrize("method", [zipfile.ZIP_DEFLATED, zipfile.ZIP_BZIP2])
def test_a_zip_bomb_is_stopped_long_before_its_end(tmp_path: Path, method: int) -> None:
    packed = zlib.compressobj(9, zlib.DEFLATED, -15)
    data = packed.compress(BOMB) + packed.flush() if method == 8 else bz2.compress(BOMB)
    (tmp_path / "x.zip").write_bytes(_zip_of("bomb.png", data, method))
    rows = listed(f"{tmp_path}/x.zip")
    tracemalloc.start()
    (item,) = read_many(rows)
    peak = tracemalloc.get_traced_memory()[1]
    tracemalloc.stop()
    assert isinstance(item, OSError)
    assert "unpacks to more than an image has" in str(item)
    assert peak < len(BOMB)


def _zip_of(name: str, packed: bytes, method: int) -> bytes:
    """A ZIP of one member whose directory says that it unpacks to five bytes."""
    fields = (20, 0, method, 0, 0, 0, len(packed), 5, len(name), 0)
    local = b"PK\3\4" + struct.pack("<5H3I2H", *fields) + name.encode()
    entry = b"PK\1\2" + struct.pack("<H5H3I5H2I", 20, *fields, 0, 0, 0, 0, 0) + name.encode()
    end = struct.pack("<4s4H2IH", b"PK\5\6", 0, 0, 1, 1, len(entry), len(local) + len(packed), 0)
    return local + packed + entry + end


def test_a_nested_zip_is_not_opened(tmp_path: Path) -> None:
    inner = zipped({"deep.png": image()})
    (tmp_path / "x.zip").write_bytes(zipped({"inner.zip": inner, "fake.png": inner}))
    (row,) = listed(f"{tmp_path}/x.zip")
    (item,) = read_many([row])
    with pytest.raises(ImageError, match="a ZIP archive"):
        decode_image(item)  # type: ignore[arg-type]


def test_names_that_mean_a_place_elsewhere_stay_names(tmp_path: Path) -> None:
    """Drive letters and backslashes are characters of a name; nothing is written on reading."""
    names = ["C:\\x.png", "C:x.png", "a\\..\\..\\x.png", "\\\\host\\x.png", "a" * 1000 + ".png"]
    files = {name: image(n) for n, name in enumerate(names)}
    (tmp_path / "x.zip").write_bytes(zipped(files))
    (tmp_path / "x.tar").write_bytes(tarred(list(files.items())))
    for source in ("x.zip", "x.tar"):
        assert read_many(listed(f"{tmp_path}/{source}")) == list(files.values())
    assert sorted(os.listdir(tmp_path)) == ["x.tar", "x.zip"]


@pytest.mark.parametrize(
    ("at", "value", "message"),
    [
        (6, b"\xff\x00", "zip file version"),
        (42, b"\xff\xff\xff\x7f", "outside the file|not a readable ZIP"),
    ],
)
def test_a_zip_directory_that_lies(tmp_path: Path, at: int, value: bytes, message: str) -> None:
    data = bytearray(zipped({"x.png": image()}))
    start = data.index(b"PK\1\2") + at
    data[start : start + len(value)] = value
    (tmp_path / "x.zip").write_bytes(data)
    with pytest.raises(UserError, match=message):
        listed(f"{tmp_path}/x.zip")


def test_a_zip_member_without_a_name(tmp_path: Path) -> None:
    (tmp_path / "x.zip").write_bytes(_zip_of("", b"", 0))
    with pytest.raises(UserError, match="leaves the archive"):
        listed(f"{tmp_path}/x.zip")


def test_a_zip64_offset_beyond_63_bits(tmp_path: Path) -> None:
    (tmp_path / "x.zip").write_bytes(zipped({"x.png": image()}))
    row = ManifestRow("x.png", f"zip://x.png::{tmp_path}/x.zip", None, 1 << 63, 100)
    assert isinstance(read_many([row])[0], OSError | OverflowError)


def _tar_header(name: str, size_field: bytes, kind: bytes = b"0") -> bytes:
    member = tarfile.TarInfo(name)
    member.type = kind
    header = bytearray(member.tobuf(tarfile.USTAR_FORMAT))
    header[124:136] = size_field
    header[148:156] = b" " * 8
    header[148:156] = f"{sum(header):06o}\0 ".encode()
    return bytes(header)


NEGATIVE = b"\xff" * 10 + b"\xfe\x00"  # base 256: -512, which leads back to the same header
ENORMOUS = b"\x80" + b"\0" * 3 + b"\x7f" + b"\xff" * 7


@pytest.mark.parametrize("size", [NEGATIVE, ENORMOUS])
@pytest.mark.parametrize("kind", [b"0", b"x", b"g", b"L", b"K", b"S"])
@pytest.mark.parametrize("first", [True, False])
def test_a_tar_with_impossible_sizes_ends(
    tmp_path: Path, size: bytes, kind: bytes, first: bool
) -> None:
    sound = b"" if first else tarred([("0.png", image())])[:1024]
    data = sound + _tar_header("x.png", size, kind) + tarred([("y.png", image())])
    (tmp_path / "x.tar").write_bytes(data)
    with pytest.raises(UserError, match=r"x\.tar"):
        listed(f"{tmp_path}/x.tar")


def test_a_tar_whose_extended_headers_follow_each_other_for_ever(tmp_path: Path) -> None:
    link = _tar_header("././@LongLink", b"00000000001\0", b"L") + b"x".ljust(512, b"\0")
    (tmp_path / "x.tar").write_bytes(link * 3000 + tarred([("y.png", image())]))
    with pytest.raises(UserError, match="recursion"):
        listed(f"{tmp_path}/x.tar")


@pytest.mark.parametrize(
    "headers",
    [
        {"size": "-512"},
        {"GNU.sparse.major": "1", "GNU.sparse.minor": "0", "GNU.sparse.name": "x.png"},
        {"GNU.sparse.map": "0,1", "GNU.sparse.size": "99999999999"},
        {"path": "../x.png"},
        {"path": "/etc/x.png"},
        {"linkpath": "/etc/passwd", "hdrcharset": "BINARY", "path": "a\udcff/../../x.png"},
    ],
)
def test_pax_headers_with_odd_content(tmp_path: Path, headers: dict[str, str]) -> None:
    member = tarfile.TarInfo("x.png")
    member.size, member.pax_headers = 600, headers
    with tarfile.open(tmp_path / "x.tar", "w", format=tarfile.PAX_FORMAT) as archive:
        archive.addfile(member, io.BytesIO(bytes(600)))
    with pytest.raises(UserError, match=r"x\.tar"):
        listed(f"{tmp_path}/x.tar")


@pytest.mark.parametrize(
    "uri",
    [
        "reference://a::{folder}/ref.json",
        "zip://a::reference://b",
        "dask://x",
        "git://x:y@z",
        "simplecache::reference://x",
        "nonsense://x",
        "parquet://image/x::{folder}/x.parquet",
        "parquet://image/-1::{folder}/x.parquet",
        "parquet://image/99999999999999999999999::{folder}/x.parquet",
        "jsonl://image/99999999999999999999999::{folder}/x.jsonl",
        "jsonl://image/-1::{folder}/x.jsonl",
        "zip://::",
        "file://",
        "\0",
    ],
)
def test_a_place_that_stands_in_a_file_is_not_followed_blindly(tmp_path: Path, uri: str) -> None:
    """fsspec's "reference" protocol renders the templates that it is given; others run commands."""
    (tmp_path / "x.parquet").write_bytes(seeds.parquets()[0])
    (tmp_path / "x.jsonl").write_bytes(seeds.json_lines()[1])
    marker = tmp_path / "executed"
    template = f"{{{{ cycler.__init__.__globals__.os.system('touch {marker}') }}}}"
    reference = {"version": 1, "templates": {"t": template}, "refs": {"a": ["{{t}}x", 0, 1]}}
    (tmp_path / "ref.json").write_text(json.dumps(reference))
    uri = uri.format(folder=tmp_path)
    assert isinstance(read_many([ManifestRow("x", uri, None)])[0], Exception)
    (tmp_path / "list.json").write_text(json.dumps([llava(uri, "c")]))
    assert read_source(f"{tmp_path}/list.json") in (True, False)
    assert not marker.exists()
