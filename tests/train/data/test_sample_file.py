"""Samples of annotations and of LLaVA's JSON, through the file that workers map."""

from __future__ import annotations

import json
from pathlib import Path

import numpy as np
import pyarrow.parquet as pq
import pytest
from PIL import Image

from pad_pipeline import masks
from pad_pipeline.errors import UserError
from pad_pipeline.records import PadRecord, RecordError, Region, records_to_table
from pad_pipeline.train.data.sample_file import TrainingSamples, write_samples
from pad_pipeline.train.data.sample_sources import source_digest


def record(name: str, caption: str | None, *, failed: bool = False) -> PadRecord:
    mask = np.zeros((12, 16), bool)
    mask[2:8, 3:9] = True
    region = Region("red ball", 0.5, (3.0, 2.0, 9.0, 8.0), masks.encode(mask), 36, 0.9)
    return PadRecord(
        image_id=name,
        uri=f"/there/{name}",
        width=0 if failed else 16,
        height=0 if failed else 12,
        caption=caption,
        status="failed" if failed else "ok",
        error=RecordError("decode", "ImageError", "truncated") if failed else None,
        tags=(),
        labels=() if failed else (region,),
    )


def write_data_set(folder: Path, records: list[PadRecord]) -> str:
    folder.mkdir()
    for number, start in enumerate(range(0, len(records), 2)):
        table = records_to_table(records[start : start + 2])
        pq.write_table(table, folder / f"pad-{number:05d}.parquet")
    return str(folder)


def test_annotations_become_samples_in_order_and_what_is_left_out_is_counted(
    tmp_path: Path,
) -> None:
    records = [
        record("a.png", "a ball"),
        record("b.png", None),
        record("c.png", "x", failed=True),
        record("d/é.png", "zwei Bälle"),
        record("e.png", "  "),
    ]
    source = write_data_set(tmp_path / "pad", records)
    number, left_out = write_samples(source, None, "pretrain", tmp_path / "samples.arrow")
    assert number == 2
    expected = {"without a caption": 2, "that failed when they were annotated": 1}
    assert left_out.counts == expected
    assert left_out.lines()[0] == "2 without a caption (b.png, e.png)"
    assert left_out.num_bad == 0
    samples = TrainingSamples(tmp_path / "samples.arrow")
    assert [samples[i].id for i in range(len(samples))] == ["a.png", "d/é.png"]
    second = samples[1]
    assert (second.caption, second.width, second.height) == ("zwei Bälle", 16, 12)
    assert second.image is not None
    assert second.image.uri == "/there/d/é.png"
    assert second.tags == ["red ball"]
    assert masks.area(second.masks[0], 12, 16) == 36
    assert samples.lengths.tolist() == [2, 2]


def test_images_of_annotations_may_lie_elsewhere_now(tmp_path: Path) -> None:
    source = write_data_set(tmp_path / "pad", [record("d/a.png", "a ball")])
    (tmp_path / "now").mkdir()
    write_samples(source, str(tmp_path / "now"), "pretrain", tmp_path / "samples.arrow")
    image = TrainingSamples(tmp_path / "samples.arrow")[0].image
    assert image is not None
    assert image.uri == str(tmp_path / "now" / "d/a.png")
    with pytest.raises(UserError, match="no such folder or archive of images"):
        write_samples(source, str(tmp_path / "gone"), "pretrain", tmp_path / "other.arrow")


def test_annotations_without_captions_are_refused(tmp_path: Path) -> None:
    source = write_data_set(tmp_path / "pad", [record("a.png", None), record("b.png", None)])
    with pytest.raises(
        UserError, match=r"2 without a caption \(a.png, b.png\)\. Stage 1 needs images with captio"
    ):
        write_samples(source, None, "pretrain", tmp_path / "samples.arrow")


def turns(*values: str) -> list[dict[str, str]]:
    return [
        {"from": "human" if index % 2 == 0 else "gpt", "value": value}
        for index, value in enumerate(values)
    ]


@pytest.fixture
def llava(tmp_path: Path) -> str:
    Image.new("RGB", (8, 8)).save(tmp_path / "a.png")
    entries = [
        {"id": "1", "image": "a.png", "conversations": turns("look\n<image>", "a black square")},
        {"id": "2", "conversations": turns("how are you ?", "well")},
        {"id": "3", "image": "a.png", "conversations": turns("<image>", "")},
    ]
    path = tmp_path / "llava.json"
    path.write_text(json.dumps(entries))
    return str(path)


def test_llava_conversations_are_stage_two_with_text_alone(llava: str, tmp_path: Path) -> None:
    number, left_out = write_samples(llava, None, "finetune", tmp_path / "samples.arrow")
    assert (number, left_out.counts) == (3, {})
    samples = TrainingSamples(tmp_path / "samples.arrow")
    assert samples[1].image is None
    assert samples[1].turns == [
        {"from": "user", "value": "how are you ?"},
        {"from": "assistant", "value": "well"},
    ]
    # words of all turns, negative for text alone, as LLaVA's sampler counts
    assert samples.lengths.tolist() == [5, -5, 1]


def test_llava_captions_are_stage_one_without_regions(llava: str, tmp_path: Path) -> None:
    number, left_out = write_samples(llava, None, "pretrain", tmp_path / "samples.arrow")
    assert number == 1
    assert left_out.counts == {"without an image": 1, "without a caption": 1}
    sample = TrainingSamples(tmp_path / "samples.arrow")[0]
    assert (sample.caption, sample.tags, sample.width) == ("a black square", [], 0)


@pytest.mark.parametrize(
    "entry",
    [
        "text",
        {"id": 1},
        {"conversations": [{"from": "human"}]},
        {"conversations": ["hello"]},
    ],
)
def test_entries_that_are_no_conversation_are_named(tmp_path: Path, entry: object) -> None:
    path = tmp_path / "bad.json"
    path.write_text(json.dumps([{"id": 0, "conversations": turns("a", "b")}, entry]))
    target = tmp_path / "samples.arrow"
    number, left_out = write_samples(str(path), None, "finetune", target)
    assert (number, left_out.counts) == (1, {"that cannot be read": 1})
    with pytest.raises(UserError, match=r"1 of 2 samples \(50.0%\) .*read \(entry 2: .*expected"):
        write_samples(str(path), None, "finetune", target, max_bad_share=0.05)


def test_stage_two_needs_conversations(tmp_path: Path) -> None:
    source = write_data_set(tmp_path / "pad", [record("a.png", "a ball")])
    with pytest.raises(UserError, match="stage 2 trains on conversations"):
        write_samples(source, None, "finetune", tmp_path / "samples.arrow")


def test_the_digest_changes_with_the_data(tmp_path: Path, llava: str) -> None:
    source = write_data_set(tmp_path / "pad", [record("a.png", "a ball")])
    before = source_digest(source, None)
    assert source_digest(source, None) == before
    assert source_digest(source, "elsewhere") != before
    pq.write_table(records_to_table([record("b.png", "b")]), tmp_path / "pad/pad-00001.parquet")
    assert source_digest(source, None) != before
