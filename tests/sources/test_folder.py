"""Folders of images: order, hidden files, links, odd names, captions."""

from __future__ import annotations

import errno
import json
import logging
import os
import re
from pathlib import Path
from typing import Any

import fsspec
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from pad_pipeline import storage
from pad_pipeline.errors import UserError
from pad_pipeline.sources import list_source, read_many, rows_to_table, table_to_rows
from tests.sources.samples import (
    by_id,
    image,
    listed,
    llava,
    write,
    write_json,
    write_lines,
    zipped,
)


def test_recursive_sorted_by_components_and_case_insensitive(root: str) -> None:
    names = [
        *("b.JPG", "a.jpeg", "c.Png", "d.webp", "e.bmp", "f.gif", "g.tif", "h.TIFF"),
        *("a/z.jpg", "a/b/c.jpg", "a.b/x.jpg", "00000/00000030.jpg"),
    ]
    files = {name: image(seed) for seed, name in enumerate(names)}
    others = ["notes.txt", ".hidden.jpg", ".git/x.jpg", "__MACOSX/._a.jpg", "jpg", "x.jpg.txt"]
    write(root, files | dict.fromkeys(others, b"?"))
    rows = listed(root)
    assert [row.image_id for row in rows] == sorted(names, key=lambda name: name.split("/"))
    assert by_id(rows) == files
    assert all(row.caption is None for row in rows)
    assert rows[0].uri == storage.join(root, rows[0].image_id)
    assert table_to_rows(rows_to_table(rows)) == rows


def test_a_relative_source_gives_absolute_uris(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    write(os.fspath(tmp_path), {"images/a.jpg": image()})
    monkeypatch.chdir(tmp_path)
    for source in (
        "images",
        "images/",
        "./images",
        f"file://{tmp_path}/images",
        "../" + tmp_path.name + "/images",
    ):
        (row,) = listed(source)
        assert (row.image_id, row.uri) == ("a.jpg", f"{tmp_path}/images/a.jpg")


def test_one_image(root: str) -> None:
    write(root, {"cat.jpg": image(3)})
    rows = listed(storage.join(root, "cat.jpg"))
    assert by_id(rows) == {"cat.jpg": image(3)}


def test_link_loops_end_and_outside_links_are_followed_once(tmp_path: Path) -> None:
    inside, outside = tmp_path / "inside", tmp_path / "outside"
    write(os.fspath(inside), {"a/1.jpg": image(1)})
    write(os.fspath(outside), {"2.jpg": image(2)})
    (inside / "loop").symlink_to(inside)
    (inside / "a" / "up").symlink_to("..")
    (inside / "again").symlink_to(inside / "a")
    (inside / "out").symlink_to(outside)
    (inside / "out2").symlink_to(outside)
    (inside / "root").symlink_to(tmp_path)
    (outside / "back").symlink_to(inside)
    (inside / "linked.jpg").symlink_to(outside / "2.jpg")
    (inside / "self").symlink_to("self")
    rows = listed(os.fspath(inside))
    assert by_id(rows) == {"a/1.jpg": image(1), "linked.jpg": image(2), "out/2.jpg": image(2)}


def test_unreadable_items_are_exceptions_in_their_place(tmp_path: Path) -> None:
    write(os.fspath(tmp_path), {"a.jpg": image(1), "c.jpg": image(2), "gone.jpg": image(3)})
    (tmp_path / "b.jpg").symlink_to(tmp_path / "nowhere")
    os.mkfifo(tmp_path / "fifo.jpg")
    rows = listed(os.fspath(tmp_path))
    (tmp_path / "gone.jpg").unlink()
    items = by_id(rows)
    assert list(items) == ["a.jpg", "b.jpg", "c.jpg", "fifo.jpg", "gone.jpg"]
    assert (items["a.jpg"], items["c.jpg"]) == (image(1), image(2))
    assert isinstance(items["b.jpg"], FileNotFoundError)
    assert isinstance(items["gone.jpg"], FileNotFoundError)
    assert "pipe" in str(items["fifo.jpg"])


def test_missing_remote_items_are_exceptions_in_their_place(root: str) -> None:
    write(root, {f"{n:02d}.jpg": image(n) for n in range(40)})
    rows = listed(root)
    storage.remove(storage.join(root, "07.jpg"))
    items = read_many(rows)
    assert isinstance(items[7], FileNotFoundError)
    assert [i for n, i in enumerate(items) if n != 7] == [image(n) for n in range(40) if n != 7]


def test_files_of_several_places_in_one_call(tmp_path: Path) -> None:
    fsspec.filesystem("memory").store.clear()
    write(os.fspath(tmp_path), {"a.jpg": image(1)})
    write("memory://x", {"a.jpg": image(2)})
    (local,), (remote,) = listed(os.fspath(tmp_path)), listed("memory://x")
    assert read_many([remote, local, remote]) == [image(2), image(1), image(2)]
    assert read_many([]) == []


def test_names_that_are_no_utf8_are_listed(tmp_path: Path) -> None:
    Path(os.fsdecode(os.fsencode(tmp_path) + b"/b\xff.jpg")).write_bytes(image())
    write(os.fspath(tmp_path), {"a.jpg": image(1)})
    rows = listed(os.fspath(tmp_path))
    assert [row.image_id for row in rows] == ["a.jpg", "b\\udcff.jpg"]
    rows_to_table(rows)
    assert read_many(rows) == [image(1), image()]


def test_a_folder_below_that_may_not_be_read_is_named(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    write(os.fspath(tmp_path), {"a.jpg": image(), "locked/b.jpg": image()})
    scan = os.scandir

    def refuse(path: str) -> Any:
        if path.endswith("locked"):
            raise PermissionError(errno.EACCES, "Permission denied", path)
        return scan(path)

    monkeypatch.setattr(os, "scandir", refuse)
    message = re.escape(f"cannot list {tmp_path}: permission denied") + ".*" + re.escape("/locked)")
    with pytest.raises(UserError, match=message):
        listed(os.fspath(tmp_path))


def test_empty_and_missing(root: str, tmp_path: Path) -> None:
    with pytest.raises(UserError, match="no such source"):
        listed(storage.join(root, "nowhere"))
    write(root, {"notes.txt": b"?"})
    with pytest.raises(UserError, match=r"no images in .*looked below it for \.jpg, .*\.tar"):
        listed(root)
    write(root, {"dataset_info.json": b"{}", "empty.json": b"[]", "images.zip": b""})
    with pytest.raises(UserError, match=r"no images in .* and \.arrow files$"):
        listed(root)
    with pytest.raises(UserError, match=r"cannot read images from .*notes\.txt: expected a folder"):
        listed(storage.join(root, "notes.txt"))


@pytest.mark.parametrize("name", ["notes/blip.json", "more.zip"])
def test_a_file_that_the_hint_names_is_a_source(root: str, name: str) -> None:
    entries = json.dumps([{"image": "http://localhost/1.jpg"}]).encode()
    data = zipped({"1.jpg": image(1)}) if name == "more.zip" else entries
    write(root, {"a.json": b'{"features": {}}', "bad.zip": b"?", name: data})
    with pytest.raises(UserError) as caught:
        listed(root)
    hinted = str(caught.value).partition("name the file itself to use it: ")[2]
    assert hinted == storage.join(root, name)
    assert len(listed(hinted)) == 1


def test_a_pad_data_set_is_no_source(root: str) -> None:
    write(root, {"_manifest.json": b"{}", "00000.parquet": b"", "overview.png": image()})
    with pytest.raises(UserError, match="is a PAD data set"):
        listed(root)


@pytest.mark.parametrize("form", ["llava", "mapping", "jsonl", "lists"])
def test_captions(root: str, form: str, caplog: pytest.LogCaptureFixture) -> None:
    write(root, {"images/x/1.jpg": image(1), "images/2.jpg": image(2)})
    captions = storage.join(root, "captions.jsonl" if form == "jsonl" else "captions.json")
    pairs = {"x/1.jpg": "ein Bär", "gone.jpg": "nothing"}
    if form == "llava":
        write_json(captions, [llava(name, text) for name, text in pairs.items()])
    elif form == "mapping":
        write_json(captions, pairs)
    elif form == "lists":
        write_json(captions, {name: [text, "other"] for name, text in pairs.items()})
    else:
        write_lines(captions, [{"file_name": n, "caption": t} for n, t in pairs.items()])
    with caplog.at_level(logging.INFO):
        rows = list(list_source(storage.join(root, "images"), captions=captions))
    assert {row.image_id: row.caption for row in rows} == {"2.jpg": None, "x/1.jpg": "ein Bär"}
    (line,) = [record.getMessage() for record in caplog.records]
    assert "1 images have one, 1 do not; 1 captions have no image" in line


def test_captions_that_cannot_be_used(root: str) -> None:
    write(root, {"images/1.jpg": image(1), "bad.json": b'{"1.jpg": "x"', "list.json": b"[1, 2]"})
    images = storage.join(root, "images")

    def fails(name: str, message: str) -> None:
        with pytest.raises(UserError, match=message):
            listed(images, captions=storage.join(root, name))

    fails("nowhere.json", "no such captions file")
    fails("bad.json", "bad.json is damaged: .*line 1 column")
    fails("list.json", "no captions in")
    fails("images/1.jpg", r"expected captions as \.json or \.jsonl")
    write_json(storage.join(root, "other.json"), {"other/1.jpg": "x"})
    fails("other.json", re.escape("names like 'other/1.jpg', images are called like '1.jpg'"))


NAMES = st.text(
    st.characters(exclude_categories=["Cs"], exclude_characters="/\0"), min_size=1, max_size=50
).filter(lambda name: not name.startswith(".") and len(name.encode()) <= 240)


@settings(max_examples=40, deadline=None)
@given(st.sets(NAMES, min_size=1, max_size=4), st.booleans())
def test_any_name_survives(
    tmp_path_factory: pytest.TempPathFactory, names: set[str], nested: bool
) -> None:
    """Unicode, spaces, newlines, quotes, "::" and "#" in names, locally."""
    root = tmp_path_factory.mktemp("names")
    files = {
        (f"{name}/x.jpg" if nested else f"{name}.jpg"): image(n) for n, name in enumerate(names)
    }
    write(os.fspath(root), files)
    rows = list(list_source(os.fspath(root)))
    assert by_id(table_to_rows(rows_to_table(rows))) == files
