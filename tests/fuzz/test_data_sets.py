"""Data sets of PAD records from elsewhere: masks, numbers, texts and names made to harm."""

from __future__ import annotations

import json
import os
import tarfile
from dataclasses import replace
from functools import cache
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from PIL import Image

from pad_pipeline import masks
from pad_pipeline.dataset.reader import find_record, iter_records, open_dataset
from pad_pipeline.dataset.render import picture_name, render
from pad_pipeline.dataset.validate import validate
from pad_pipeline.errors import UserError
from pad_pipeline.export.formats import export
from tests.dataset.example import HEIGHT, WIDTH, ellipse, record, region, write_dataset
from tests.fuzz.targets import read_dataset

APPLE = region("apple", ellipse(12, 10, 8, 7))


def _number(value: int) -> str:
    """One number in the characters of a compressed mask."""
    text = ""
    while True:
        group, value = value & 31, value >> 5
        done = (value == 0 and not group & 16) or (value == -1 and group & 16)
        text += chr(48 + group + (0 if done else 32))
        if done:
            return text


@cache
def _overflowing() -> str:
    """Runs that are each sound and whose sum is 12 modulo 2**64: numpy's repeat would believe it
    and write far behind its twelve bytes."""
    each = 1 << 16  # runs of zeros, and as many of ones; every run is longer than the last but one
    weights = np.arange(each, 0, -1)  # how many runs a step adds to
    target = (1 << 64) + 12
    step = target // (2 * int(weights.sum()))
    steps = [step] * (2 * each)
    rest = target - step * 2 * int(weights.sum())
    for at in range(each):
        more, rest = divmod(rest, int(weights[at]))
        steps[2 * at] += more
    lengths = [0, 0]
    total = 0
    for at, more in enumerate(steps):
        lengths[at % 2] += more
        total += lengths[at % 2]
    assert total == target
    # The third run is not yet a difference.
    text = [_number(more) for more in steps]
    text[2] = _number(steps[0] + steps[2])
    return "".join(text)


@pytest.mark.parametrize(
    "counts",
    [
        _overflowing(),
        _number(1 << 33) + _number(-(1 << 33) + 12),
        _number(12)[:-1] + "P",
        "P" * 1000,
        "o" * 7 + "0",
        _number(6) + _number(-6) + _number(12),
        "\0",
        "0" * 100_000,
        "",
        "é\ud800",
    ],
    ids=lambda counts: repr(counts[:12]),
)
def test_a_hostile_mask_is_refused_everywhere(counts: str) -> None:
    for read in (masks.decode, masks.area, masks.bounding_box):
        with pytest.raises(ValueError, match=r"mask|runs|surrogates"):
            read(counts, 3, 4)


@pytest.mark.parametrize(
    ("height", "width"),
    [(-3, -4), (-1, -12), (-12, -1), (1 << 31, 1 << 31), (100_000, 100_000), (0, 5)],
)
def test_impossible_sizes_of_a_mask(height: int, width: int) -> None:
    with pytest.raises(ValueError, match="mask"):
        masks.decode(_number(12), height, width)


def test_boxes_of_masks_are_those_of_their_pixels() -> None:
    rng = np.random.default_rng(0)
    for share in (0.0, 0.02, 0.3, 1.0):
        for _ in range(20):
            mask = rng.random((7, 5)) < share
            counts = masks.encode(mask)
            rows, columns = np.flatnonzero(mask.any(1)), np.flatnonzero(mask.any(0))
            tight = (columns[0], rows[0], columns[-1] + 1, rows[-1] + 1) if len(rows) else (0,) * 4
            assert masks.bounding_box(counts, 7, 5) == tight
            assert masks.area(counts, 7, 5) == mask.sum()


@pytest.mark.parametrize(
    "changes",
    [
        {"labels": (replace(APPLE, rle_mask=_overflowing()),)},
        {"labels": (replace(APPLE, bbox=(float("nan"),) * 4),)},
        {"labels": (replace(APPLE, bbox=(-1e38, 1e38, float("inf"), 0.0), score=float("nan")),)},
        {"labels": (replace(APPLE, area=-(1 << 63)),)},
        {"width": (1 << 31) - 1, "height": (1 << 31) - 1, "labels": (APPLE,), "status": "ok"},
        {"width": -(1 << 31)},
        {"status": "\0" * 1000},
    ],
)
def test_hostile_records_are_found(tmp_path: Path, changes: dict[str, Any]) -> None:
    url = write_dataset(tmp_path / "set", [record(0, [APPLE]), replace(record(1), **changes)])
    assert not validate(url).ok
    assert read_dataset(url)


@pytest.mark.parametrize(
    "shards",
    [3, {"a": 1}, [1], [{}], [{"name": 3}], [[]], "x", None, [{"name": "../../etc/passwd"}]],
)
def test_a_manifest_of_other_types(tmp_path: Path, shards: Any) -> None:
    url = write_dataset(tmp_path / "set", [record(0, [APPLE])], shards=shards)
    with pytest.raises(UserError, match="damaged"):
        open_dataset(url)


def test_a_manifest_nested_too_deeply(tmp_path: Path) -> None:
    url = write_dataset(tmp_path / "set", [record(0, [APPLE])])
    Path(url, "_manifest.json").write_text('{"format": ' + "[" * 100_000)
    with pytest.raises(UserError, match="not valid JSON"):
        open_dataset(url)


def test_text_that_is_not_utf8(tmp_path: Path) -> None:
    caption = "a caption without compression"
    url = write_dataset(tmp_path / "set", [record(n, caption=caption) for n in range(3)])
    shard = Path(url, "pad-00000.parquet")
    import pyarrow.parquet as pq

    pq.write_table(pq.read_table(shard), shard, compression="none")
    shard.write_bytes(shard.read_bytes().replace(b"a caption", b"\xff caption"))
    for read in (
        lambda: list(iter_records(open_dataset(url))),
        lambda: find_record(url, record(0).image_id),
    ):
        with pytest.raises(UserError, match="is damaged"):
            read()
    assert "unreadable shard" in validate(url).num_problems


IDS = (
    *("../../x.png", "/etc/x.png", "a\\b.png", "C:\\x.png", "..", ".", "", "/", "//", "a//b.png"),
    *("a/b.png", "./a/b.png", "x" * 2000, "d/" * 1500 + "x.png", "new\nline.png", "nul.png "),
    *("a\0b.png", "x", "x.jpg", "X.JPG", "~root/x.png", "a/../../b.png", "\u202egnp.x", "a. ./b"),
)


@pytest.fixture(scope="module")
def hostile(tmp_path_factory: pytest.TempPathFactory) -> tuple[str, Path]:
    """A data set with the ids, all of one picture, in a folder of its own."""
    folder = tmp_path_factory.mktemp("hostile")
    picture = folder / "picture.png"
    Image.new("RGB", (WIDTH, HEIGHT)).save(picture)
    records = [record(0, [APPLE], image_id=name, uri=str(picture)) for name in IDS]
    secret = folder / "secret"
    secret.write_text("a private file of this machine")
    records.append(record(0, [APPLE], image_id="stolen.png", uri=str(secret)))
    return write_dataset(folder / "set", records, rows_per_shard=50), folder


def test_rendering_writes_one_file_each_below_its_folder(hostile: tuple[str, Path]) -> None:
    url, folder = hostile
    before = _files(folder)
    report = render(url, str(folder / "drawn"))
    written = _files(folder) - before
    assert report.num_images == len(written) == len(IDS)
    assert all(path.is_relative_to(folder / "drawn") for path in written)
    assert not Path("/etc/x.png").exists()


def _files(folder: Path) -> set[Path]:
    return {path for path in folder.parent.rglob("*") if path.is_file()}


@pytest.mark.parametrize("name", IDS)
def test_a_picture_name_is_short_relative_and_stays_below(name: str) -> None:
    made = Path(picture_name(name))
    assert not made.is_absolute()
    assert ".." not in made.parts
    assert all(len(part.encode()) <= 255 for part in made.parts)
    assert len(str(made).encode()) < 1100
    assert "\0" not in str(made)


@pytest.mark.parametrize("form", ["webdataset", "pad-json", "coco", "llava"])
def test_exports_write_below_their_destination(hostile: tuple[str, Path], form: str) -> None:
    url, folder = hostile
    before = _files(folder)
    dest = folder / f"exported-{form}"
    export(url, str(dest), form)
    written = _files(folder) - before
    assert written
    assert all(path.is_relative_to(dest) for path in written)
    if form != "webdataset":
        json.loads(dest.read_bytes())
        return
    for path in written:
        with tarfile.open(path) as tar:
            members = tar.getmembers()
            content = b"".join(tar.extractfile(member).read() for member in members)  # type: ignore
        assert all(member.name[:9].isdecimal() and "/" not in member.name for member in members)
        assert b"a private file" not in content


def test_images_are_looked_for_below_their_folder_only(tmp_path: Path) -> None:
    Image.new("RGB", (WIDTH, HEIGHT)).save(tmp_path / "outside.png")
    (tmp_path / "images").mkdir()
    url = write_dataset(tmp_path / "set", [record(0, [APPLE], image_id="../outside.png")])
    with pytest.raises(UserError, match="none of the 1 images could be read"):
        render(url, str(tmp_path / "drawn"), images=str(tmp_path / "images"))
    assert not os.path.exists(tmp_path / "drawn")


def test_an_export_to_webdataset_never_holds_a_number_that_json_has_not(tmp_path: Path) -> None:
    Image.new("RGB", (WIDTH, HEIGHT)).save(tmp_path / "x.png")
    odd = replace(APPLE, score=float("nan"))
    url = write_dataset(tmp_path / "set", [record(0, [odd], uri=str(tmp_path / "x.png"))])
    with pytest.raises(UserError, match="not finite"):
        export(url, str(tmp_path / "out"), "webdataset")
