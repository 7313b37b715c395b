"""Parts of an export: by the image's id alone, each image in one."""

from __future__ import annotations

import json
from pathlib import Path

import numpy as np
import pytest

from pad_pipeline.dataset.reader import open_dataset
from pad_pipeline.dataset.selection import Selection
from pad_pipeline.errors import UserError
from pad_pipeline.export.chosen import part_of
from pad_pipeline.export.formats import export
from pad_pipeline.export.options import ExportOptions
from pad_pipeline.similarity.duplicates import write_pairs
from pad_pipeline.similarity.store import PAIRS, folder_of, shard_digests, write_manifest
from tests.dataset.example import ellipse, record, region, write_dataset

MASK = ellipse(12, 10, 8, 7)


def records(count: int, skip: int = 0) -> list:
    return [record(number, [region("apple", MASK, 0.9)]) for number in range(skip, count)]


def ids(path: Path) -> set[str]:
    return {row["image_id"] for row in json.loads(path.read_text())}


def test_every_image_is_in_one_part_and_stays_there(tmp_path: Path) -> None:
    options = ExportOptions(split="train=0.7,val=0.2,test=0.1")
    parts: list[dict[str, set[str]]] = []
    for skip in (0, 100):  # a part of the data set is split as the whole is
        url = write_dataset(tmp_path / f"set{skip}", records(300, skip), rows_per_shard=100)
        dest = tmp_path / f"out{skip}"
        report = export(url, str(dest), "pad-json", options=options)
        assert report.num_images == 300 - skip
        parts.append({name: ids(dest / f"{name}.json") for name in ("train", "val", "test")})
    whole, some = parts
    assert sum(map(len, whole.values())) == len(set.union(*whole.values())) == 300
    for name in whole:
        assert some[name] <= whole[name]
    assert 180 <= len(whole["train"]) <= 240
    assert 15 <= len(whole["test"]) <= 50


def test_another_seed_splits_otherwise() -> None:
    shares = {"a": 0.5, "b": 0.5}
    parts = [[part_of(f"image {n}", shares, seed) for n in range(200)] for seed in (0, 1)]
    assert 60 < sum(one != two for one, two in zip(*parts, strict=True)) < 140
    assert part_of("image 0", {"a": 1.0}, 0) == "a"


def test_ids_of_coco_are_the_same_in_every_part_and_selection(tmp_path: Path) -> None:
    made = [
        record(n, [region("apple", MASK, 0.9), region(f"tag {n}", MASK, 0.4)]) for n in range(20)
    ]
    url = write_dataset(tmp_path / "set", made)

    def facts(path: Path) -> dict[int, tuple]:
        found = json.loads(path.read_text())
        names = {row["id"]: row["file_name"] for row in found["images"]}
        return {
            row["id"]: (row["image_id"], names[row["image_id"]], row["category_id"], row["score"])
            for row in found["annotations"]
        }

    export(url, str(tmp_path / "all.json"), "coco")
    everything = facts(tmp_path / "all.json")
    assert len(everything) == 40
    export(url, str(tmp_path / "some.json"), "coco", Selection(min_score=0.5))
    some = facts(tmp_path / "some.json")
    assert len(some) == 20
    assert some.items() <= everything.items()
    export(url, str(tmp_path / "parts"), "coco", options=ExportOptions(split="train=0.5,val=0.5"))
    train, val = (facts(tmp_path / f"parts/{name}.json") for name in ("train", "val"))
    assert {**train, **val} == everything
    assert len(train) + len(val) == 40


@pytest.mark.parametrize(
    "split", ["train", "train=0.5", "train=0.5,val=0.6", "a=1,b=0", "a=x", "", "../x=1", "a=-1,b=2"]
)
def test_shares_that_do_not_add_up_are_refused(split: str) -> None:
    with pytest.raises(UserError, match=r"shares that add up to 1, as train=0\.9,val=0\.1"):
        ExportOptions(split=split)


def test_a_file_of_ids_selects_images(tmp_path: Path, caplog) -> None:
    url = write_dataset(tmp_path / "set", records(6))
    wanted = [record(number).image_id for number in (1, 4)]
    (tmp_path / "ids.txt").write_text("\n".join([*wanted, "nowhere.png", ""]))
    select = Selection(ids=str(tmp_path / "ids.txt"))
    export(url, str(tmp_path / "out.json"), "pad-json", select)
    assert ids(tmp_path / "out.json") == set(wanted)
    assert "1 of the images in" in caplog.text
    assert "'nowhere.png'" in caplog.text
    (tmp_path / "none.txt").write_text("\n")
    with pytest.raises(UserError, match="names no image"):
        export(url, str(tmp_path / "x"), "coco", Selection(ids=str(tmp_path / "none.txt")))
    with pytest.raises(UserError, match="cannot read"):
        export(url, str(tmp_path / "x"), "coco", Selection(ids=str(tmp_path / "gone.txt")))


def test_near_duplicates_are_in_one_part_where_there_are_embeddings(tmp_path: Path) -> None:
    url = write_dataset(tmp_path / "set", records(60))
    options = ExportOptions(split="train=0.5,val=0.5")
    alone = export(url, str(tmp_path / "alone"), "pad-json", options=options)
    assert alone.together == ""
    val = ids(tmp_path / "alone/val.json")
    group = sorted(record(number).image_id for number in range(20))
    assert val & set(group)
    assert set(group) - val

    folder = folder_of(url)
    pairs = np.array([[0, number] for number in range(1, 20)])
    names = [record(number).image_id for number in range(60)]
    write_pairs(f"{folder}/{PAIRS}", pairs, np.full(19, 0.99, np.float32), names)
    facts = {"model": "embedded", "duplicates_from": 0.9}
    shards = shard_digests(open_dataset(url))
    write_manifest(folder, {"state": "finished", "shards": shards, **facts})
    report = export(url, str(tmp_path / "out"), "pad-json", options=options)
    assert report.together.startswith("20 images in 1 group of near-duplicates stay together")
    train, val_now = (ids(tmp_path / f"out/{name}.json") for name in ("train", "val"))
    assert set(group) <= train or set(group) <= val_now
    assert val_now - set(group) == val - set(group)

    write_manifest(folder, {"state": "finished", "shards": {"pad-00000.parquet": "x"}, **facts})
    with pytest.raises(UserError, match="of other shards than the data set has now"):
        export(url, str(tmp_path / "no"), "pad-json", options=options)
    assert not (tmp_path / "no").exists()
    export(url, str(tmp_path / "whole.json"), "pad-json")  # needs no embeddings
