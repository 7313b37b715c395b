"""Images of records found again: files, archives, Parquet, another folder."""

from __future__ import annotations

import base64
import json
import tarfile
import zipfile
from collections import Counter
from pathlib import Path

import pyarrow as pa
import pyarrow.parquet as pq
import pytest

from pad_pipeline.dataset.record_images import UNREADABLE, iter_record_images, read_record_images
from pad_pipeline.errors import UserError
from pad_pipeline.records import PadRecord
from pad_pipeline.sources import list_source
from tests.dataset.example import example_records, failed, record, write_images


@pytest.fixture
def images(tmp_path) -> dict[str, bytes]:
    return write_images(tmp_path / "images", [record(number) for number in range(5)])


def pack_zip(path: Path, images: dict[str, bytes]) -> None:
    with zipfile.ZipFile(path, "w", zipfile.ZIP_DEFLATED) as archive:
        for name, data in images.items():
            archive.writestr(name, data)


def pack_tar(path: Path, images: dict[str, bytes]) -> None:
    with tarfile.open(path, "w") as archive:
        for name in images:
            archive.add(path.parent / "images" / name, name)


def pack_parquet(path: Path, images: dict[str, bytes]) -> None:
    rows = {"id": list(images), "image": [{"bytes": data} for data in images.values()]}
    pq.write_table(pa.table(rows), path, row_group_size=2)


def pack_jsonl(path: Path, images: dict[str, bytes]) -> None:
    rows = [{"id": i, "bytes": base64.b64encode(data).decode()} for i, data in images.items()]
    path.write_text("".join(json.dumps(row) + "\n" for row in rows))


PACK = {"zip": pack_zip, "tar": pack_tar, "parquet": pack_parquet, "jsonl": pack_jsonl}


@pytest.mark.parametrize("kind", PACK)
def test_items_of_a_container_are_found_by_their_uri(tmp_path, images, kind):
    path = tmp_path / f"images.{kind}"
    PACK[kind](path, images)
    rows = list(list_source(str(path)))
    assert len(rows) == 5
    records = [record(0, image_id=row.image_id, uri=row.uri) for row in reversed(rows)]
    assert read_record_images(records) == list(images.values())[::-1]


@pytest.mark.parametrize("kind", ["folder", "zip"])
def test_images_elsewhere_are_found_by_id(tmp_path, images, kind):
    place = tmp_path / "images"
    if kind == "zip":
        place = tmp_path / "moved.zip"
        pack_zip(place, images)
    records: list[PadRecord] = [record(3, uri="/gone"), record(1, uri="zip://x::/gone.zip")]
    found = read_record_images([*records, record(0, image_id="absent.png")], str(place))
    assert found[:2] == [images[one.image_id] for one in records]
    assert isinstance(found[2], OSError)


def test_what_cannot_be_read_is_counted_and_left_out(tmp_path, images):
    records = [record(0), failed(1), record(2, image_id="absent.png"), record(3)]
    counts: Counter[str] = Counter()
    found = list(iter_record_images(records, str(tmp_path / "images"), counts))
    assert [one.image_id for one, _ in found] == [records[0].image_id, records[3].image_id]
    assert [data for _, data in found] == [images[one.image_id] for one, _ in found]
    assert counts == {"failed": 1, UNREADABLE: 1}


def test_nothing_readable_is_an_error_and_nothing_wanted_is_none():
    with pytest.raises(UserError, match="none of the 6 images"):
        list(iter_record_images(example_records(), None, Counter()))
    assert list(iter_record_images([failed(0)], None, Counter())) == []
