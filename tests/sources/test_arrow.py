"""Arrow files as `save_to_disk`, Feather and polars write them, and rows read back by batch."""

from __future__ import annotations

import io
import json
from typing import Any

import pyarrow as pa
import pyarrow.ipc as ipc
import pytest

from pad_pipeline import storage
from pad_pipeline.errors import UserError
from pad_pipeline.sources import arrow, read_many
from tests.sources.samples import by_id, image, listed, write

IMAGE = pa.struct([("bytes", pa.binary()), ("path", pa.string())])


def arrow_bytes(
    columns: dict[str, Any], *, rows_per_batch: int = 4, feather: bool = False
) -> bytes:
    table = pa.table(columns)
    sink = io.BytesIO()
    make_writer = ipc.new_file if feather else ipc.new_stream
    with make_writer(sink, table.schema) as writer:
        writer.write_table(table, max_chunksize=rows_per_batch)
    return sink.getvalue()


def saved(num_rows: int, first: int = 0, **more: Any) -> bytes:
    images = [{"bytes": image(n), "path": "x.png"} for n in range(first, first + num_rows)]
    texts = [f"caption {n}" for n in range(first, first + num_rows)]
    return arrow_bytes({"image": pa.array(images, IMAGE), "text": texts, **more})


def state(*names: str, **more: Any) -> bytes:
    return json.dumps({"_data_files": [{"filename": n} for n in names], **more}).encode()


def test_a_folder_of_save_to_disk(root: str) -> None:
    files = [f"data-0000{n}-of-00002.arrow" for n in range(2)]
    write(root, {files[0]: saved(6), files[1]: saved(3, first=6), "state.json": state(*files)})
    write(root, {"dataset_info.json": b'{"features": {}}'})
    rows = listed(root)
    ids = [f"data-00000-of-00002/{n:08d}" for n in range(6)]
    ids += [f"data-00001-of-00002/{n:08d}" for n in range(3)]
    assert by_id(rows) == dict(zip(ids, map(image, range(9)), strict=True))
    assert [row.caption for row in rows] == [f"caption {n}" for n in range(9)]
    # Any order, over several batches and files, with repetitions.
    chosen = [rows[n] for n in (8, 0, 5, 5, 3, 4)]
    assert read_many(chosen) == [image(n) for n in (8, 0, 5, 5, 3, 4)]
    assert by_id(listed(storage.join(root, files[1]))) == dict(
        zip(ids[6:], map(image, range(6, 9)), strict=True)
    )


def test_a_saved_dictionary_of_data_sets(root: str) -> None:
    for part, first in (("train", 0), ("test", 2)):
        write(root, {f"{part}/data-00000-of-00001.arrow": saved(2, first)})
        write(root, {f"{part}/state.json": state("data-00000-of-00001.arrow")})
    write(root, {"dataset_dict.json": b'{"splits": ["train", "test"]}'})
    name = "data-00000-of-00001"
    assert by_id(listed(root)) == {
        f"test/{name}/00000000": image(2),
        f"test/{name}/00000001": image(3),
        f"train/{name}/00000000": image(0),
        f"train/{name}/00000001": image(1),
    }


def test_files_that_are_no_part_of_what_was_saved(
    root: str, caplog: pytest.LogCaptureFixture
) -> None:
    write(root, {"data-00000-of-00001.arrow": saved(1), "cache-12ab.arrow": saved(2)})
    assert [row.image_id for row in listed(root)] == ["data-00000-of-00001/00000000"]
    assert "1 Arrow files are no part of the saved data and are not read: cache-12ab" in caplog.text
    write(root, {"data-00000-of-00002.arrow": saved(1), "data-00001-of-00002.arrow": saved(1)})
    names = [f"data-0000{n}-of-00002.arrow" for n in range(2)]
    write(root, {"state.json": state(*names)})
    assert [row.image_id for row in listed(root)] == [f"{name[:-6]}/00000000" for name in names]
    write(root, {"state.json": state(*names, _indices_data_files=[{"filename": "i.arrow"}])})
    with pytest.raises(UserError, match="selects rows by a file of indices"):
        listed(root)
    write(root, {"state.json": b"[]"})
    with pytest.raises(UserError, match=r"state\.json should be a JSON object that lists"):
        listed(root)


@pytest.mark.parametrize("feather", [False, True])
@pytest.mark.parametrize(
    "kind",
    [pa.binary(), pa.large_binary(), pa.binary_view(), pa.dictionary(pa.int8(), pa.binary())],
)
def test_types_of_bytes(root: str, kind: pa.DataType, feather: bool) -> None:
    images = pa.array([image(n) for n in range(9)], pa.binary()).cast(kind)
    captions = pa.array(list("abcabcabc")).dictionary_encode()
    data = arrow_bytes({"image": images, "text": captions}, feather=feather)
    write(root, {"x.arrow": data})
    rows = listed(storage.join(root, "x.arrow"))
    assert list(by_id(rows).values()) == [image(n) for n in range(9)]
    assert [row.caption for row in rows] == list("abcabcabc")


def test_dictionaries_that_change_from_batch_to_batch(root: str) -> None:
    batches = [
        pa.record_batch({"jpg": pa.array([image(n), image(n + 1)]).dictionary_encode()})
        for n in (1, 5, 9)
    ]
    sink = io.BytesIO()
    with ipc.new_stream(sink, batches[0].schema) as writer:
        for batch in batches:
            writer.write_batch(batch)
    write(root, {"x.arrow": sink.getvalue()})
    rows = listed(storage.join(root, "x.arrow"))
    assert list(by_id(rows).values()) == [image(n) for n in (1, 2, 5, 6, 9, 10)]


def test_rows_without_an_image_are_skipped_and_counted(
    root: str, caplog: pytest.LogCaptureFixture
) -> None:
    one, none = {"bytes": image(1), "path": None}, {"bytes": None, "path": None}
    images = pa.array([[one], [none], None, [], [one, one], [one, none]], pa.list_(IMAGE))
    write(root, {"x.arrow": arrow_bytes({"images": images, "text": list("abcdef")})})
    rows = listed(storage.join(root, "x.arrow"))
    assert by_id(rows) == {"x/00000000": image(1), "x/00000005": image(1)}
    assert [row.caption for row in rows] == ["a", "f"]
    assert "skipped 3 rows without an image" in caplog.text
    assert "skipped 1 rows with several images" in caplog.text


def test_paths(root: str) -> None:
    write(root, {"a.jpg": image(1), "b.jpg": image(2)})
    images = [{"bytes": None, "path": name} for name in ("a.jpg", "b.jpg", "a.jpg")]
    write(root, {"x.feather": arrow_bytes({"image": pa.array(images, IMAGE)}, feather=True)})
    source = storage.join(root, "x.feather")
    assert by_id(listed(source)) == {"a.jpg": image(1), "b.jpg": image(2)}


def test_a_large_batch_is_not_kept(root: str, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(arrow, "_LARGEST_CACHED_BYTES", 0)
    write(root, {"x.arrow": saved(3)})
    assert read_many(listed(storage.join(root, "x.arrow"))) == [image(n) for n in range(3)]
    assert arrow._values.cache_info().currsize == 0


def test_what_cannot_be_used(root: str) -> None:
    def fails(data: bytes, message: str) -> None:
        write(root, {"x.arrow": data})
        with pytest.raises(UserError, match=message):
            listed(storage.join(root, "x.arrow"))

    fails(b"", "is not a readable Arrow file: it has no schema")
    fails(b"no Arrow file at all", "is not a readable Arrow file")
    fails(arrow_bytes({"jpg": [image()]}, feather=True)[:-20], "is not a readable Arrow file")
    fails(saved(9)[:-200], "is damaged at byte")
    fails(arrow_bytes({"x": [1]}), "should have a column of image paths .* found x")
    fails(
        arrow_bytes({"image_id": ["a"], "uri": ["a"], "status": ["ok"], "labels": [[1]]}),
        "belongs to a PAD data set",
    )


def test_rows_that_are_not_there(root: str) -> None:
    write(root, {"x.arrow": saved(9)})
    rows = listed(storage.join(root, "x.arrow"))
    write(root, {"x.arrow": saved(2)})
    items = read_many(rows)
    assert items[:2] == [image(0), image(1)]
    assert all(isinstance(item, Exception) for item in items[2:])
    storage.remove(storage.join(root, "x.arrow"))
    assert all(isinstance(item, UserError) for item in read_many(rows))
