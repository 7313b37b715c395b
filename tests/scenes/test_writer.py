"""Scenes as files: the ground truth is what was drawn, and the same call writes the same bytes."""

from __future__ import annotations

import json
from pathlib import Path

import numpy as np
import pytest
from PIL import Image
from pycocotools import mask as coco_mask
from pycocotools.coco import COCO

from pad_pipeline import masks
from pad_pipeline.errors import UserError
from pad_pipeline.scenes.generator import generate_scene
from pad_pipeline.scenes.writer import HELD_OUT_SEED, write_scenes
from tests.cli import place as cli_place


def test_the_scenes_are_the_same_each_time_and_others_for_another_seed(tmp_path: Path) -> None:
    for name, seed in (("a", 1), ("b", 1), ("c", 2)):
        write_scenes(tmp_path / name, num_images=3, seed=seed)
    a, b, c = (cli_place.files(tmp_path / name) for name in "abc")
    assert a == b
    assert a.keys() == c.keys()
    for name in a:
        if name.startswith("images/"):
            assert a[name] not in c.values()


def test_the_ground_truth_is_what_was_drawn(tmp_path: Path, capsys) -> None:
    scenes = write_scenes(tmp_path, num_images=5, seed=1)
    truth = COCO(str(tmp_path / "ground_truth.json"))
    capsys.readouterr()
    assert len(truth.getImgIds()) == 5
    assert len(truth.getAnnIds()) == sum(len(scene.things) for scene in scenes) > 5
    for image_id, scene in enumerate(scenes, start=1):
        [image] = truth.loadImgs([image_id])
        with Image.open(tmp_path / "images" / image["file_name"]) as drawn:
            assert np.array_equal(np.asarray(drawn), scene.image)
            assert drawn.size == (image["width"], image["height"])
        entries = truth.loadAnns(truth.getAnnIds(imgIds=[image_id]))
        for entry, thing in zip(entries, scene.things, strict=True):
            mask = truth.annToMask(entry).astype(bool)
            assert np.array_equal(mask, thing.mask)
            assert entry["area"] == mask.sum() > 0
            assert truth.loadCats([entry["category_id"]])[0]["name"] == thing.kind
            x, y, width, height = coco_mask.toBbox(
                {"size": list(mask.shape), "counts": masks.encode(mask).encode()}
            )
            assert entry["bbox"] == pytest.approx([x, y, width, height])


def test_the_captions_have_llavas_form(tmp_path: Path) -> None:
    scenes = write_scenes(tmp_path, num_images=3, seed=1)
    entries = json.loads((tmp_path / "captions.json").read_text())
    for entry, scene in zip(entries, scenes, strict=True):
        assert set(entry) == {"id", "image", "conversations"}
        assert (tmp_path / "images" / entry["image"]).is_file()
        human, gpt = entry["conversations"]
        assert human["from"] == "human"
        assert "<image>" in human["value"]
        assert gpt == {"from": "gpt", "value": scene.caption}
        assert len(scene.caption.split()) >= 3


def test_the_scenes_are_none_of_the_trainings(tmp_path: Path) -> None:
    [scene] = write_scenes(tmp_path, num_images=1, seed=0)
    assert np.array_equal(scene.image, generate_scene(HELD_OUT_SEED).image)


def test_a_half_drawn_folder_is_drawn_again(tmp_path: Path, monkeypatch) -> None:
    write_scenes(tmp_path / "whole", num_images=3, seed=1)
    with monkeypatch.context() as during:
        during.setattr("pad_pipeline.scenes.writer.to_coco", _killed)
        with pytest.raises(KeyboardInterrupt):
            write_scenes(tmp_path / "half", num_images=3, seed=1)
    (tmp_path / "half/images/scene_00001.png").write_bytes(b"\x89PNG cut off")
    with pytest.raises(UserError, match="holds scenes of another number"):
        write_scenes(tmp_path / "half", num_images=2, seed=1)
    write_scenes(tmp_path / "half", num_images=3, seed=1)
    assert cli_place.files(tmp_path / "half") == cli_place.files(tmp_path / "whole")


def _killed(*arguments: object) -> None:
    raise KeyboardInterrupt


def test_files_of_others_are_not_written_over(tmp_path: Path) -> None:
    (tmp_path / "captions.json").write_text("mine")
    with pytest.raises(UserError, match=r"holds captions\.json, which is not the demo's"):
        write_scenes(tmp_path, num_images=1, seed=0)
    assert cli_place.files(tmp_path) == {"captions.json": b"mine"}
