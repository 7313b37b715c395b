"""Records and regions show themselves: masks as arrays, pictures, what a notebook displays."""

from __future__ import annotations

import io
import pickle
from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest
from PIL import Image

import pad_pipeline
from pad_pipeline import masks
from pad_pipeline.dataset.reader import iter_records, open_dataset
from pad_pipeline.drawing.record import draw_record
from pad_pipeline.errors import UserError
from pad_pipeline.record_json import to_dict
from pad_pipeline.records import PadRecord
from tests.dataset.example import (
    HEIGHT,
    WIDTH,
    example_records,
    failed,
    write_dataset,
    write_images,
)


@pytest.fixture
def records(tmp_path: Path) -> list[PadRecord]:
    """As they are read from a data set whose images are there."""
    made = [replace(one, uri=str(tmp_path / "images" / one.image_id)) for one in example_records()]
    write_images(tmp_path / "images", made)
    return list(iter_records(open_dataset(write_dataset(tmp_path / "set", made))))


def test_a_region_shows_its_mask(records: list[PadRecord]) -> None:
    for record in (*records, *pickle.loads(pickle.dumps(records))):
        for region in record.labels:
            assert region.size == (HEIGHT, WIDTH)
            assert region.mask.dtype == bool
            assert region.mask.shape == (HEIGHT, WIDTH)
            assert region.mask.sum() == region.area
            assert masks.encode(region.mask) == region.rle_mask


def test_the_size_is_no_part_of_a_region(records: list[PadRecord]) -> None:
    [first, *_] = records
    bare = replace(first.labels[0], size=None)
    assert bare == first.labels[0]
    assert repr(bare) == repr(first.labels[0])
    assert "size" not in to_dict(first)["labels"][0]
    assert to_dict(first)["labels"][0]["tag"] == bare.tag
    assert first.labels[0].size is not None  # `to_dict` takes nothing from the record itself


def test_a_region_without_its_mask_says_so(tmp_path: Path, records: list[PadRecord]) -> None:
    region = records[0].labels[0]
    with pytest.raises(UserError, match="'apple' does not know its size"):
        _ = replace(region, size=None).mask
    [bare, *_] = iter_records(open_dataset(str(tmp_path / "set")), masks=False)
    with pytest.raises(UserError, match="does not know its mask: it was read without masks"):
        _ = bare.labels[0].mask
    with pytest.raises(UserError, match="the mask of 'apple' is damaged"):
        _ = replace(region, size=(3, 3)).mask


def test_a_record_is_drawn_on_its_image_however_it_is_given(records: list[PadRecord]) -> None:
    record = records[0]
    data = Path(record.uri).read_bytes()
    pixels = np.asarray(Image.open(io.BytesIO(data)))
    wanted = draw_record(pixels, record)
    for image in (None, pixels, Image.open(io.BytesIO(data)), data, record.uri, Path(record.uri)):
        assert record.plot(image).tobytes() == wanted.tobytes()
    assert pad_pipeline.plot(record).tobytes() == wanted.tobytes()
    assert record.plot(scale=1).size == (WIDTH, HEIGHT)


def test_what_cannot_be_drawn_says_why(records: list[PadRecord]) -> None:
    record = records[0]
    for image, message in (
        (b"no image", "cannot be drawn on: not an image|cannot be drawn on: .*format"),
        ("/nowhere.png", "cannot be drawn on"),
        (np.zeros((3, 4, 3), np.uint8), "it is another image, or it was changed since"),
        (np.zeros((3, 4, 3)), "the image is float64"),
    ):
        with pytest.raises(UserError, match=message):
            record.plot(image)
    with pytest.raises(UserError, match="does not say where its image is"):
        replace(record, uri="").plot()
    with pytest.raises(UserError, match=r"failed \(the file is empty"):
        failed(1).plot()


def test_a_notebook_shows_a_record_as_a_small_png(records: list[PadRecord]) -> None:
    shown = records[0]._repr_png_()
    assert shown is not None
    assert Image.open(io.BytesIO(shown)).size == records[0].plot().size
    assert replace(records[0], uri="/nowhere.png")._repr_png_() is None
    assert failed(1)._repr_png_() is None


def test_a_large_picture_is_shown_smaller(tmp_path: Path, records: list[PadRecord]) -> None:
    Image.new("RGB", (3000, 200)).save(tmp_path / "wide.png")
    wide = replace(records[5], uri=str(tmp_path / "wide.png"), width=3000, height=200)
    shown = wide._repr_png_()
    assert shown is not None
    assert Image.open(io.BytesIO(shown)).size == (1024, 68)
