"""Parquet with paths or bytes, as Hugging Face writes them, and rows read back by number."""

from __future__ import annotations

import base64
import io
import json
import logging
from typing import Any

import pyarrow as pa
import pyarrow.parquet as pq
import pytest

from pad_pipeline import storage
from pad_pipeline.errors import UserError
from pad_pipeline.given import GivenRegion
from pad_pipeline.sources import Given, ManifestRow, list_source, parquet, read_many
from tests.sources.samples import by_id, image, listed, write, zipped

NUM_ROWS = 25


def table_bytes(columns: dict[str, Any], **options: Any) -> bytes:
    buffer = io.BytesIO()
    pq.write_table(pa.table(columns), buffer, **options)
    return buffer.getvalue()


def hugging_face(num_rows: int = NUM_ROWS, **more: Any) -> bytes:
    images = [{"bytes": image(n), "path": "image.png"} for n in range(num_rows)]
    captions = [f"caption {n}" for n in range(num_rows)]
    return table_bytes({"image": images, "text": captions, **more}, row_group_size=7)


def test_hugging_face_images(root: str) -> None:
    write(root, {"train-00000.parquet": hugging_face()})
    source = storage.join(root, "train-00000.parquet")
    rows = listed(source)
    expected = {f"train-00000/{n:08d}": image(n) for n in range(NUM_ROWS)}
    assert by_id(rows) == expected
    assert [row.caption for row in rows] == [f"caption {n}" for n in range(NUM_ROWS)]
    assert rows[3].uri == f"parquet://image.bytes/3::{source}"
    assert rows[3].offset == 3
    # Any order, over several row groups, with repetitions.
    chosen = [rows[n] for n in (24, 0, 13, 13, 6, 7)]
    assert read_many(chosen) == [image(n) for n in (24, 0, 13, 13, 6, 7)]


def test_large_row_groups_are_read_in_parts(root: str, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(parquet, "_LARGEST_CACHED_BYTES", 0)
    data = table_bytes({"jpg": [image(n) for n in range(200)]}, row_group_size=150)
    write(root, {"x.parquet": data})
    rows = listed(storage.join(root, "x.parquet"))
    chosen = [199, 0, 63, 64, 149, 150, 65]
    assert read_many([rows[n] for n in chosen]) == [image(n) for n in chosen]


def test_a_file_that_was_written_again_is_read_again(root: str) -> None:
    source = storage.join(root, "x.parquet")
    write(root, {"x.parquet": table_bytes({"jpg": [image(1)]})})
    rows = listed(source)
    assert read_many(rows) == [image(1)]
    write(root, {"x.parquet": table_bytes({"jpg": [image(2), image(3)]})})
    assert read_many(rows) == [image(2)]


@pytest.mark.parametrize("key", ["jpg", "bytes", "image_bytes", "image"])
@pytest.mark.parametrize("kind", [pa.binary(), pa.large_binary()])
def test_bytes_columns_and_ids(root: str, key: str, kind: pa.DataType) -> None:
    columns = {
        "id": [7, 8],
        "caption": [["one", "two"], []],
        key: pa.array([image(1), image(2)], kind),
    }
    write(root, {"x.parquet": table_bytes(columns)})
    rows = listed(storage.join(root, "x.parquet"))
    assert by_id(rows) == {"7": image(1), "8": image(2)}
    assert [row.caption for row in rows] == ["one", None]


VIEWS = [pa.binary_view(), pa.dictionary(pa.int32(), pa.binary()), pa.list_(pa.binary())]


@pytest.mark.parametrize("kind", [*VIEWS, pa.large_list(pa.large_binary())])
def test_views_dictionaries_and_lists_of_one(root: str, kind: pa.DataType) -> None:
    is_list = pa.types.is_list(kind) or pa.types.is_large_list(kind)
    images = [[image(n)] if is_list else image(n) for n in range(9)]
    column = pa.array(images, kind) if is_list else pa.array(images, pa.binary()).cast(kind)
    captions = pa.array([str(n) for n in range(9)], pa.string_view())
    write(root, {"x.parquet": table_bytes({"image": column, "text": captions}, row_group_size=4)})
    rows = listed(storage.join(root, "x.parquet"))
    assert by_id(rows) == {f"x/{n:08d}": image(n) for n in range(9)}
    assert [row.caption for row in rows] == [str(n) for n in range(9)]


@pytest.mark.parametrize(
    "kind", [pa.string_view(), pa.large_string(), pa.dictionary(pa.int8(), pa.large_string())]
)
@pytest.mark.parametrize("key", ["image", "URL", "Path"])
def test_paths_of_every_type_of_text(root: str, kind: pa.DataType, key: str) -> None:
    write(root, {"a.jpg": image(1), "b.jpg": image(2)})
    column = pa.array(["a.jpg", "b.jpg"]).cast(kind)
    write(root, {"x.parquet": table_bytes({key: column, "TEXT": ["one", "two"]})})
    rows = listed(storage.join(root, "x.parquet"))
    assert by_id(rows) == {"a.jpg": image(1), "b.jpg": image(2)}
    assert [row.caption for row in rows] == ["one", "two"]


def test_text_that_was_stored_as_bytes(root: str) -> None:
    write(root, {"ä.jpg": image(1)})
    columns = {"path": ["ä.jpg".encode()], "caption": ["für".encode()], "id": [b"7"]}
    write(root, {"x.parquet": table_bytes(columns)})
    (row,) = listed(storage.join(root, "x.parquet"))
    assert (row.image_id, row.caption, read_many([row])) == ("7", "für", [image(1)])


@pytest.mark.parametrize("key", ["images", "image"])
@pytest.mark.parametrize("field", ["bytes", "path"])
def test_lists_of_images(root: str, key: str, field: str, caplog: pytest.LogCaptureFixture) -> None:
    write(root, {f"{n}.jpg": image(n) for n in range(3)})

    def entry(n: int) -> dict[str, Any]:
        return {"bytes": image(n), "path": None} if field == "bytes" else {"path": f"{n}.jpg"}

    values = [[entry(0)], [entry(1), entry(2)], [], None, [entry(2)]]
    texts = [[{"user": "?", "assistant": str(n), "source": "x"}] for n in range(5)]
    write(root, {"x.parquet": table_bytes({key: values, "texts": texts}, row_group_size=2)})
    rows = listed(storage.join(root, "x.parquet"))
    ids = ["x/00000000", "x/00000004"] if field == "bytes" else ["0.jpg", "2.jpg"]
    assert by_id(rows) == dict(zip(ids, (image(0), image(2)), strict=True))
    assert [row.caption for row in rows] == ["0", "4"]
    assert "skipped 1 rows with several images" in caplog.text
    assert "skipped 2 rows without an image" in caplog.text


@pytest.mark.parametrize("statistics", [True, False])
def test_null_bytes_are_skipped_and_counted(
    root: str, statistics: bool, caplog: pytest.LogCaptureFixture
) -> None:
    images = [{"bytes": image(n), "path": None} if n in (0, 6) else None for n in range(7)]
    images[1] = {"bytes": None, "path": None}
    images[2] = {"bytes": b"", "path": None}
    data = table_bytes({"image": images}, row_group_size=3, write_statistics=statistics)
    write(root, {"x.parquet": data})
    rows = listed(storage.join(root, "x.parquet"))
    assert by_id(rows) == {"x/00000000": image(0), "x/00000006": image(6)}
    assert "skipped 5 rows without an image" in caplog.text
    asked = read_many([ManifestRow("", rows[0].uri.replace("/0::", "/1::"), None)])
    assert str(asked[0]).endswith("no image bytes in row 1 of row group 0")


def test_failed_downloads_of_img2dataset_are_counted_by_their_status(
    root: str, caplog: pytest.LogCaptureFixture
) -> None:
    columns = {
        "key": [f"{n:09d}" for n in range(4)],
        "status": ["success", "failed_to_download", "failed_to_resize", "failed_to_download"],
        "jpg": pa.array([image(0), None, None, None], pa.binary()),
    }
    write(root, {"x.parquet": table_bytes(columns)})
    assert by_id(listed(storage.join(root, "x.parquet"))) == {"000000000": image(0)}
    assert "skipped 2 rows without an image (failed_to_download)" in caplog.text
    assert "skipped 1 rows without an image (failed_to_resize)" in caplog.text


def test_bytes_are_read_at_listing_only_where_some_are_null(
    root: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    images = pa.array([image(0), image(1), None, image(3)], pa.binary())
    write(root, {"x.parquet": table_bytes({"jpg": images}, row_group_size=2)})
    read = []
    count_images = parquet.count_images
    monkeypatch.setattr(
        parquet,
        "count_images",
        lambda values, name: read.append(len(values)) or count_images(values, name),
    )
    assert len(list(list_source(storage.join(root, "x.parquet")))) == 3
    assert read == [2]


@pytest.mark.parametrize("prefix", ["", "data:image/png;base64,"])
def test_base64_as_text(root: str, prefix: str) -> None:
    # Pictures have more bytes than paths have characters.
    pictures = [image(n) + bytes(300) for n in range(3)]
    texts = [prefix + base64.b64encode(data).decode() for data in pictures]
    write(root, {"x.parquet": table_bytes({"image": [*texts[:2], None, texts[2]]})})
    rows = listed(storage.join(root, "x.parquet"))
    expected = dict(zip((f"x/{n:08d}" for n in (0, 1, 3)), pictures, strict=True))
    assert by_id(rows) == expected


def test_images_in_columns_of_other_names(root: str, caplog: pytest.LogCaptureFixture) -> None:
    one, two = ([{"bytes": image(n), "path": None}] for n in (1, 2))
    source = storage.join(root, "x.parquet")
    write(root, {"x.parquet": table_bytes({"label": [1], "img": one})})
    assert by_id(listed(source)) == {"x/00000000": image(1)}
    write(root, {"x.parquet": table_bytes({"photo": one, "image": two})})
    assert by_id(listed(source)) == {"x/00000000": image(2)}
    assert "image.bytes is read, other images are not: photo" in caplog.text
    write(root, {"x.parquet": table_bytes({"photo": one, "mask": two})})
    with pytest.raises(UserError, match=r"has several columns of images: photo, mask; expected"):
        listed(source)


def test_a_caption_is_taken_from_the_first_column_that_has_one(root: str) -> None:
    turns = json.dumps([{"from": "human", "value": "?"}, {"from": "gpt", "value": "answer"}])
    columns = {
        "jpg": [image(n) for n in range(4)],
        "conversation": [turns, None, "no JSON", None],
        "caption": ["not this", None, "c", ""],
        "TEXT": [None, "t", "not this", None],
        "captions": [None, None, None, ["one", "two"]],
    }
    write(root, {"x.parquet": table_bytes(columns)})
    rows = listed(storage.join(root, "x.parquet"))
    assert [row.caption for row in rows] == ["answer", "t", "c", ""]


def test_rows_about_one_image_are_one_row(root: str, caplog: pytest.LogCaptureFixture) -> None:
    columns = {
        "image": [{"bytes": image(n), "path": None} for n in (7, 7, 8)],
        "image_id": [7, 7, 8],
        "text": ["first", "second", "third"],
    }
    write(root, {"x.parquet": table_bytes(columns)})
    caplog.set_level(logging.INFO)
    rows = listed(storage.join(root, "x.parquet"))
    assert by_id(rows) == {"7": image(7), "8": image(8)}
    assert [row.caption for row in rows] == ["first", "third"]
    assert [row.captions for row in rows] == [("first", "second"), None]
    assert "1 row is about an image that an earlier one is about" in caplog.text
    # An id of another name is a row's own, and two of them may be different images.
    columns["id"] = columns.pop("image_id")
    write(root, {"x.parquet": table_bytes(columns)})
    with pytest.raises(UserError, match="names 1 image more than once: '7'"):
        listed(storage.join(root, "x.parquet"))


def test_columns_of_tags_and_boxes(root: str) -> None:
    columns = {
        "image": [{"bytes": image(n), "path": None} for n in (7, 8)],
        "words": [["cat", "dog"], None],
        "objects": [
            {"bbox": [[1.0, 2.0, 3.0, 4.0]], "category": ["cat"]},
            {"bbox": [], "category": []},
        ],
    }
    write(root, {"x.parquet": table_bytes(columns)})
    source = storage.join(root, "x.parquet")
    given = Given(tags="words", boxes="objects", box_format="xywh")
    rows = list(list_source(source, given=given))
    assert [row.tags for row in rows] == [("cat", "dog"), ()]
    assert [row.regions for row in rows] == [(GivenRegion("cat", (1, 2, 4, 6)),), ()]
    with pytest.raises(UserError, match="has no column 'gone'; it has image, words, objects"):
        list(list_source(source, given=Given(boxes="gone")))
    write(root, {"f/a.jpg": image()})
    with pytest.raises(UserError, match="/f has no column 'gone': columns are those of Parquet"):
        list(list_source(storage.join(root, "f"), given=Given(tags="gone")))


@pytest.mark.parametrize("key", ["path", "file_name", "image"])
@pytest.mark.parametrize("place", ["", "images", "images.zip", "elsewhere"])
def test_paths(root: str, key: str, place: str) -> None:
    files = {"a/1.jpg": image(1), "ä.jpg": image(2)}
    source = storage.join(root, "x.parquet")
    write(root, {"x.parquet": table_bytes({key: [*files, None], "caption": ["1", "2", "3"]})})
    if place == "images.zip":
        write(root, {place: zipped(files)})
    else:
        write(storage.join(root, place), files)
    options = {"images": storage.join(root, place)} if place == "elsewhere" else {}
    rows = listed(source, **options)
    assert by_id(rows) == files
    assert [row.caption for row in rows] == ["1", "2"]


@pytest.mark.parametrize("kind", [pa.binary(), pa.null()])
def test_a_struct_that_holds_paths_only(root: str, kind: pa.DataType) -> None:
    values = [{"bytes": None, "path": "a.jpg"}, {"bytes": None, "path": "b.jpg"}]
    images = pa.array(values, pa.struct([("bytes", kind), ("path", pa.string())]))
    write(root, {"a.jpg": image(1), "b.jpg": image(2)})
    write(root, {"x.parquet": table_bytes({"image": images, "image_id": ["one", "two"]})})
    assert by_id(listed(storage.join(root, "x.parquet"))) == {"one": image(1), "two": image(2)}


def test_dictionary_columns_and_conversations(root: str) -> None:
    turns = [[{"from": "human", "value": "?"}, {"from": "gpt", "value": "answer"}]]
    write(root, {"a.jpg": image(1)})
    columns = {
        "image": pa.array(["a.jpg"]).dictionary_encode(),
        "id": ["9"],
        "conversations": turns,
    }
    write(root, {"x.parquet": table_bytes(columns)})
    (row,) = listed(storage.join(root, "x.parquet"))
    assert (row.image_id, row.caption) == ("a.jpg", "answer")


def test_a_folder_and_a_glob_of_files(root: str) -> None:
    write(root, {f"{part}/0.parquet": hugging_face(3) for part in ("train", "test")})
    for source in (
        root,
        storage.join(root, "*/*.parquet"),
        storage.join(root, "{test,train}/0.parquet"),
    ):
        assert list(by_id(listed(source))) == [
            f"{part}/0/{n:08d}" for part in ("test", "train") for n in range(3)
        ]


def test_a_delta_table_is_refused(root: str) -> None:
    # Its folder also holds the files of rows that were deleted.
    write(root, {"part-0.parquet": hugging_face(3), "_delta_log/00000.json": b"{}"})
    with pytest.raises(UserError, match="is a Delta table, whose log says which"):
        listed(root)
    assert len(listed(storage.join(root, "part-*.parquet"))) == 3


def test_what_cannot_be_used(root: str) -> None:
    def fails(data: bytes, message: str) -> None:
        write(root, {"x.parquet": data})
        with pytest.raises(UserError, match=message):
            listed(storage.join(root, "x.parquet"))

    fails(b"", "is not a readable Parquet file")
    fails(hugging_face()[:-20], "is not a readable Parquet file")
    fails(table_bytes({"x": [1]}), "should have a column of image paths .* found x")
    fails(table_bytes({"image": [1]}), "should have a column of image paths")
    fails(table_bytes({"jpg": pa.array([], pa.binary())}), "no images in")
    fails(table_bytes({"path": ["a.jpg"]}), "names images such as 'a.jpg'")
    fails(
        table_bytes({"image_id": ["a"], "uri": ["a"], "status": ["ok"], "labels": [[1]]}),
        "belongs to a PAD data set",
    )


def test_damage_behind_the_footer_is_an_item_that_fails(root: str) -> None:
    data = bytearray(table_bytes({"jpg": [image(n) for n in range(50)]}, compression="none"))
    data[4:40] = b"\xff" * 36
    write(root, {"x.parquet": bytes(data)})
    items = read_many(listed(storage.join(root, "x.parquet")))
    assert len(items) == 50
    assert all(isinstance(item, Exception) for item in items)


def test_a_row_that_is_not_there(root: str) -> None:
    write(root, {"x.parquet": hugging_face(9)})
    rows = listed(storage.join(root, "x.parquet"))
    write(root, {"x.parquet": hugging_face(2)})
    items = read_many(rows)
    assert items[:2] == [image(0), image(1)]
    assert all("has no row" in str(item) for item in items[2:])
    storage.remove(storage.join(root, "x.parquet"))
    assert all(isinstance(item, UserError) for item in read_many(rows))
