"""LLaVA's JSON, other JSON lists and JSONL."""

from __future__ import annotations

import base64
import json
import logging
import tracemalloc
from pathlib import Path

import pytest

from pad_pipeline import storage
from pad_pipeline.errors import UserError
from pad_pipeline.sources import Given, json_stream, list_source, rows_to_table, table_to_rows
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

FILES = {"00000/00000030.jpg": image(1), "00001/ä b.jpg": image(2)}


def llava_json(root: str) -> str:
    entries = [llava(name, f"caption of {name}") for name in reversed(FILES)]
    return write_json(storage.join(root, "blip_laion_cc_sbu_558k.json"), entries)


@pytest.mark.parametrize("place", ["", "images", "elsewhere"])
def test_llava_with_a_folder(root: str, place: str) -> None:
    source = llava_json(root)
    write(storage.join(root, place), FILES)
    options = {"images": storage.join(root, place)} if place == "elsewhere" else {}
    rows = listed(source, **options)
    assert [row.image_id for row in rows] == list(reversed(FILES))  # the list's own order
    assert by_id(rows) == FILES
    assert rows[0].caption == "caption of 00001/ä b.jpg"


@pytest.mark.parametrize("prefix", ["", "images/", "LLaVA-Pretrain/"])
@pytest.mark.parametrize("given_images", [False, True])
def test_llava_with_a_zip(root: str, prefix: str, given_images: bool) -> None:
    source = llava_json(root)
    name = "pictures.zip" if given_images else "images.zip"
    write(root, {name: zipped({prefix + n: data for n, data in FILES.items()})})
    options = {"images": storage.join(root, name)} if given_images else {}
    rows = listed(source, **options)
    assert by_id(rows) == FILES
    assert rows[0].uri == f"zip://{prefix}00001/ä b.jpg::{storage.join(root, name)}"


def test_an_image_missing_from_the_zip_or_folder_is_an_item_that_fails(root: str) -> None:
    source = write_json(storage.join(root, "x.json"), [llava("a.jpg", "a"), llava("b.jpg", "b")])
    for files in ({"images.zip": zipped({"a.jpg": image()})}, {"a.jpg": image()}):
        write(root, files)
        items = by_id(listed(source))
        assert items["a.jpg"] == image()
        assert isinstance(items["b.jpg"], FileNotFoundError)
        storage.remove(storage.join(root, "images.zip"))


def test_images_nowhere(root: str) -> None:
    source = llava_json(root)
    with pytest.raises(
        UserError, match=r"names images such as '00001/.*set images to where they are"
    ):
        listed(source)
    with pytest.raises(UserError, match=r"no such folder or \.zip of images"):
        listed(source, images=storage.join(root, "nowhere"))


def test_text_only_entries_are_skipped_and_counted(
    root: str, caplog: pytest.LogCaptureFixture
) -> None:
    write(root, FILES)
    values = [llava(None, "text"), llava("00000/00000030.jpg", "x"), llava(None, "text")]
    rows = list(list_source(write_json(storage.join(root, "x.json"), values)))
    assert [row.image_id for row in rows] == ["00000/00000030.jpg"]
    assert "skipped 2 entries without an image" in caplog.text


def test_the_caption_is_the_first_answer(root: str) -> None:
    entry = llava("a.jpg", "first")
    entry["conversations"] += [
        {"from": "human", "value": "more?"},
        {"from": "gpt", "value": "second"},
    ]
    silent = llava("b.jpg", "") | {"conversations": [{"from": "human", "value": "?"}]}
    write(root, {"a.jpg": image(), "b.jpg": image()})
    rows = listed(write_json(storage.join(root, "x.json"), [entry, silent]))
    assert [row.caption for row in rows] == ["first", None]


@pytest.mark.parametrize("form", ["json", "jsonl"])
@pytest.mark.parametrize("key", ["image", "path", "file_name", "uri", "url"])
def test_plain_entries(root: str, form: str, key: str) -> None:
    write(root, FILES)
    values = [{key: name, "text": f"t{n}"} for n, name in enumerate(FILES)]
    make = write_json if form == "json" else write_lines
    rows = listed(make(storage.join(root, f"x.{form}"), values))
    assert by_id(rows) == FILES
    assert [row.caption for row in rows] == ["t0", "t1"]


def test_ids_absolute_paths_and_urls(tmp_path: Path) -> None:
    storage.write_atomic("memory://bucket/k.jpg", image(5))
    write(f"{tmp_path}/far", FILES)
    lines = [
        {"path": f"{tmp_path}/far/00000/00000030.jpg"},
        {"path": "memory://bucket/k.jpg"},
        {"path": "../far/00001/ä b.jpg"},
        {"path": "memory://bucket/k.jpg", "id": 17, "caption": ["one", "two"]},
    ]
    rows = listed(write_lines(f"{tmp_path}/near/x.jsonl", lines))
    assert by_id(rows) == {
        f"{tmp_path}/far/00000/00000030.jpg"[1:]: image(1),
        "bucket/k.jpg": image(5),
        "far/00001/ä b.jpg": image(2),
        "17": image(5),
    }
    assert rows[3].caption == "one"


def test_base64_lines(root: str) -> None:
    lines = [
        {"jpg": base64.b64encode(image(0)).decode(), "caption": "c0"},
        {"jpg": base64.b64encode(image(1)).decode(), "caption": "c1", "id": "x"},
        {"jpg": "no base64!", "id": "bad"},
    ]
    source = write_lines(storage.join(root, "shards/a.jsonl"), lines)
    rows = listed(source)
    items = by_id(rows)
    assert [row.image_id for row in rows] == ["a/00000000", "x", "bad"]
    assert (items["a/00000000"], items["x"]) == (image(0), image(1))
    assert isinstance(items["bad"], OSError)
    assert [row.caption for row in rows] == ["c0", "c1", None]


@pytest.mark.parametrize(
    ("name", "text", "message"),
    [
        ("x.json", "", "should hold a JSON list.*an empty file"),
        ("x.json", '{"a": 1}', 'should hold a JSON list.*found one object with keys such as "a"'),
        ("x.json", "[]", "no images in"),
        ("x.json", '[\n {"image": "a.jpg"},\n {"image" "b.jpg"}]', "line 3, column 11"),
        ("x.json", '[{"image": "a.jpg"}, {"image": "b', "line 1, column 32: Unterminated"),
        ("x.json", '[{"image": "a.jpg"}', "line 1, column 20: expected"),
        ("x.json", '[{"image": "a.jpg"}] x', "line 1, column 22: text behind"),
        ("x.json", '[{"image": "a.jpg"},\n3]', "entry 2 should be an object.*found '3'"),
        ("x.json", '[{"image": "a.jpg"}, {"image": [1]}]', "entry 2 .* should name images as text"),
        ("x.json", '[{"image": "/"}]', "expected the path of an image, found '/'"),
        ("x.json", "[" * 100_000, "line 1, column 2: nested too deeply"),
        ("x.jsonl", '{"image": "a.jpg"}\n\n{"image": \n', "damaged at line 3"),
        ("x.jsonl", "", "no images in"),
        ("x.jsonl", "[1]\n", "entry 1 should be an object"),
    ],
)
def test_damaged_lists(root: str, name: str, text: str, message: str) -> None:
    write(root, {name: text.encode(), "a.jpg": image()})
    with pytest.raises(UserError, match=message):
        listed(storage.join(root, name))


def test_text_that_is_no_utf8(root: str) -> None:
    write(root, {"x.json": b'[{"image": "\xff.jpg"}]', "x.jsonl": b'{"image": "\xff.jpg"}\n'})
    with pytest.raises(UserError, match="is not UTF-8 text after line 1"):
        listed(storage.join(root, "x.json"))
    with pytest.raises(UserError, match="damaged at line 1"):
        listed(storage.join(root, "x.jsonl"))


def test_half_a_surrogate_pair_in_a_caption_can_be_stored(root: str) -> None:
    write(root, {"a.jpg": image(), "x.json": rb'[{"image": "a.jpg", "caption": "cut \ud83d"}]'})
    (row,) = listed(storage.join(root, "x.json"))
    assert row.caption == "cut \\ud83d"
    assert table_to_rows(rows_to_table([row])) == [row]


def test_names_that_no_disk_can_hold_are_items_that_fail(tmp_path: Path) -> None:
    names = ["x" * 300 + ".jpg", "nul\0.jpg", "ok.jpg"]
    write(str(tmp_path), {"ok.jpg": image()})
    source = write_lines(f"{tmp_path}/x.jsonl", [{"image": name} for name in names])
    items = by_id(listed(source))
    assert list(items) == names
    assert [isinstance(item, Exception) for item in items.values()] == [True, True, False]


def test_a_byte_order_mark_is_fine(root: str) -> None:
    text = json.dumps({"image": "a.jpg"})
    bom = b"\xef\xbb\xbf"
    write(root, {"x.json": bom + f"[{text}]".encode(), "x.jsonl": bom + text.encode()})
    write(root, {"a.jpg": image()})
    for name in ("x.json", "x.jsonl"):
        assert by_id(listed(storage.join(root, name))) == {"a.jpg": image()}


def test_memory_does_not_grow_with_the_list(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(json_stream, "_CHUNK_CHARACTERS", 1 << 16)
    values = [llava(f"{n // 1000:05d}/{n:09d}.jpg", "c" * 200) for n in range(5000)]
    source = write_json(f"{tmp_path}/x.json", values)
    write(str(tmp_path), {"00000/000000000.jpg": image()})
    tracemalloc.start()
    try:
        assert sum(1 for _ in list_source(source)) == len(values)
        peak = tracemalloc.get_traced_memory()[1]
    finally:
        tracemalloc.stop()
    assert Path(source).stat().st_size > 2_000_000  # parsed, some 7 MB
    assert peak < 1_000_000


LINES = [{"image": "a.jpg", "caption": "c0"}, {"image": "b.jpg", "caption": "c1"}]


def test_json_lines_are_known_by_content_whatever_the_name(root: str) -> None:
    """`datasets.to_json` writes lines into files called .json."""
    write(root, {"a.jpg": image(), "b.jpg": image(1)})
    as_lines, as_list = storage.join(root, "lines.json"), storage.join(root, "list.jsonl")
    write_lines(as_lines, LINES)
    write_json(as_list, LINES)
    for source in (as_lines, as_list):
        assert [(row.image_id, row.caption) for row in listed(source)] == [
            ("a.jpg", "c0"),
            ("b.jpg", "c1"),
        ]


@pytest.mark.parametrize("encoding", ["utf-16", "utf-8-sig"])
def test_lists_in_the_encodings_of_windows(root: str, encoding: str) -> None:
    write(root, {"a.jpg": image(), "x.json": json.dumps([{"image": "a.jpg"}]).encode(encoding)})
    assert [row.image_id for row in listed(storage.join(root, "x.json"))] == ["a.jpg"]


def test_annotations_of_coco_are_named(root: str) -> None:
    content = {"info": {}, "images": [{"id": 1}], "annotations": []}
    source = write_json(storage.join(root, "x.json"), content)
    with pytest.raises(UserError, match=r'keys such as "info", "images", .*COCO'):
        listed(source)


def test_an_image_of_many_conversations_has_one_row(root: str, caplog) -> None:
    """As in LLaVA's mix of 665K; two names with one stem are two images."""
    write(root, {"cat.jpg": image(), "cat.png": image(1)})
    entries = [llava("cat.jpg", "first"), llava("cat.png", "png"), llava("cat.jpg", "second")]
    caplog.set_level(logging.INFO)
    rows = listed(write_json(storage.join(root, "x.json"), [*entries, llava(None, "text")]))
    assert [(row.image_id, row.caption, row.captions) for row in rows] == [
        ("cat.jpg", "first", ("first", "second")),
        ("cat.png", "png", None),
    ]
    assert "1 entry is about an image that an earlier one names; it is annotated" in caplog.text
    assert "skipped 1 entries without an image" in caplog.text


def test_captions_of_one_image_in_several_entries_or_in_a_list(root: str) -> None:
    write(root, {"cat.jpg": image(), "dog.jpg": image(1)})
    entries = [
        {"image": "cat.jpg", "caption": "first"},
        {"image": "dog.jpg", "captions": ["one", "two"]},
        {"image": "cat.jpg", "caption": "second"},
    ]
    rows = listed(write_json(storage.join(root, "x.json"), entries))
    assert [(row.image_id, row.captions) for row in rows] == [
        ("cat.jpg", ("first", "second")),
        ("dog.jpg", ("one", "two")),
    ]


def test_tags_and_boxes_under_keys(root: str, caplog) -> None:
    write(root, {"cat.jpg": image(), "dog.jpg": image(1)})
    entries = [
        {"image": "cat.jpg", "words": ["cat", " red  sofa", "cat"], "things": [[1, 2, 3, 4]]},
        {"image": "dog.jpg", "words": "dog, tree", "things": None},
    ]
    source = write_json(storage.join(root, "x.json"), entries)
    given = Given(tags="words", boxes="things", box_format="xywh")
    rows = list(list_source(source, given=given))
    assert [row.tags for row in rows] == [("cat", "red sofa"), ("dog", "tree")]
    assert [[one.bbox for one in row.regions or ()] for row in rows] == [[(1, 2, 4, 6)], []]
    flat = write_json(
        storage.join(root, "z.json"), [{"image": "cat.jpg", "things": [[1, 2, 1, 4]]}]
    )
    assert [row.regions for row in list_source(flat, given=Given(boxes="things"))] == [()]
    assert "1 box that has no area is left out (cat.jpg)" in caplog.text
    bad = write_json(storage.join(root, "y.json"), [{"image": "cat.jpg", "words": [7]}])
    with pytest.raises(UserError, match=r"y.json: entry 1 should have tags as a list of texts"):
        list(list_source(bad, given=Given(tags="words")))


def test_images_as_lists(root: str, caplog) -> None:
    write(root, {"a.jpg": image(), "b.jpg": image(1)})
    entries = [
        llava("a.jpg", "x") | {"image": ["a.jpg"]},
        {"images": ["b.jpg"], "messages": [{"role": "assistant", "content": "y"}]},
        {"image": ["a.jpg", "b.jpg"], "caption": "two"},
    ]
    rows = listed(write_json(storage.join(root, "x.json"), entries))
    assert [(row.image_id, row.caption) for row in rows] == [("a.jpg", "x"), ("b.jpg", "y")]
    assert "skipped 1 entries with several images" in caplog.text
