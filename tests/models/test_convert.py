"""Conversion of original checkpoints to model directories, and loading these by reference."""

from __future__ import annotations

import json
import shutil
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from PIL import Image as PillowImage
from safetensors.torch import load_file, save_file

from pad_pipeline import masks
from pad_pipeline.errors import UserError
from pad_pipeline.models import registry
from pad_pipeline.models.base import Runtime
from pad_pipeline.models.convert import convert
from tests.golden_data import golden_dir

CPU = Runtime()


def photo() -> np.ndarray:
    path = golden_dir("pipeline_e2e") / "image.png"
    return np.asarray(PillowImage.open(path).convert("RGB"))


def chain() -> dict[str, Any]:
    return json.loads((golden_dir("pipeline_e2e") / "expected.json").read_text())


def write_lines(path: Path, lines: list[Any]) -> Path:
    path.write_text("\n".join(map(str, lines)) + "\n")
    return path


def released(name: str, directory: Path, *, wrapped: bool) -> Path:
    """The golden checkpoint as a pickle with nothing beside it, as released files are."""
    state = load_file(golden_dir(name) / "checkpoint.safetensors")
    path = directory / f"{name}.pth"
    torch.save({"model": state} if wrapped else state, path)
    return path


def test_ram_from_a_released_file_with_its_lists(tmp_path: Path) -> None:
    config = json.loads((golden_dir("ram_tiny") / "config.json").read_text())
    output = tmp_path / "deep" / "ram"
    returned = convert(
        "ram",
        released("ram_tiny", tmp_path, wrapped=True),
        output,
        tags=write_lines(tmp_path / "tags.txt", config["tags"]),
        thresholds=write_lines(tmp_path / "thresholds.txt", config["thresholds"]),
    )
    assert returned == output
    assert [path.name for path in output.parent.iterdir()] == ["ram"]  # no unfinished sibling
    written = json.loads((output / "config.json").read_text())
    assert (written["model_type"], written["tags"]) == ("ram", config["tags"])
    (tags,) = registry.load_tagger(output, CPU).tag([photo()])
    assert " | ".join(tag.tag for tag in tags) == chain()["ram_tags"]


@pytest.mark.parametrize(("name", "kind"), [("ram_tiny", "ram"), ("ram_plus_tiny", "ram-plus")])
def test_taggers_take_tags_and_sizes_from_beside_the_checkpoint(
    name: str, kind: Any, tmp_path: Path
) -> None:
    checkpoint = golden_dir(name) / "checkpoint.safetensors"
    config = json.loads((golden_dir(name) / "config.json").read_text())
    convert(kind, checkpoint, tmp_path / "a")
    written = json.loads((tmp_path / "a" / "config.json").read_text())
    assert written["thresholds"] == config["thresholds"]
    assert written["num_attention_heads"] == config["num_attention_heads"]
    tags = write_lines(tmp_path / "tags.txt", [f"tag {tag}" for tag in config["tags"]])
    convert(kind, checkpoint, tmp_path / "b", tags=tags)
    written = json.loads((tmp_path / "b" / "config.json").read_text())
    assert written["tags"][0] == f"tag {config['tags'][0]}"
    assert set(written["thresholds"]) == {0.68}


def test_grounding_dino_finds_the_recorded_boxes(tmp_path: Path) -> None:
    convert("grounding-dino", golden_dir("gdino_tiny") / "checkpoint.safetensors", tmp_path / "d")
    assert {"config.json", "model.safetensors", "preprocessor_config.json"} <= {
        path.name for path in (tmp_path / "d").iterdir()
    }
    from pad_pipeline.models.grounding_dino.preprocessing import Preprocessing

    recorded = chain()
    detector = registry.load_detector(
        tmp_path / "d",
        CPU,
        preprocessing=Preprocessing(*recorded["gdino_resize"]),
        box_threshold=recorded["box_threshold"],
        text_threshold=recorded["text_threshold"],
        label_mode="phrase",
    )
    (boxes,) = detector.detect([photo()], [recorded["ram_tags"].split(" | ")])
    expected = load_file(golden_dir("pipeline_e2e") / "expected.safetensors")
    pixels = 1e-4 * max(photo().shape)
    np.testing.assert_allclose(boxes.xyxy, expected["boxes_xyxy_before_nms"], atol=pixels)
    np.testing.assert_allclose(boxes.scores, expected["scores"], atol=1e-4)


def test_grounding_dino_from_a_released_file_needs_only_a_tokenizer(tmp_path: Path) -> None:
    vocabulary = golden_dir("gdino_tiny") / "vocab.txt"
    checkpoint = released("gdino_tiny", tmp_path, wrapped=True)
    convert("grounding-dino", checkpoint, tmp_path / "d", tokenizer=vocabulary)
    detector = registry.load_detector(tmp_path / "d", CPU, box_threshold=0.0)
    (boxes,) = detector.detect([photo()[:60, :60]], [["dog", "red car"]])
    config = json.loads((golden_dir("gdino_tiny") / "config.json").read_text())
    assert len(boxes.xyxy) == config["num_queries"]
    assert set(boxes.labels) <= {"dog", "red car"}


def test_sam_gives_the_recorded_masks(tmp_path: Path) -> None:
    convert("sam", golden_dir("sam_tiny") / "checkpoint.safetensors", tmp_path / "s")
    segmenter = registry.load_segmenter(tmp_path / "s", CPU, max_images=2, max_boxes=3)
    expected = load_file(golden_dir("pipeline_e2e") / "expected.safetensors")
    (regions,) = segmenter.segment([photo()], [expected["boxes_xyxy"].numpy()])
    found = np.stack([masks.decode(mask.counts, mask.height, mask.width) for mask in regions])
    wanted = np.unpackbits(expected["masks_packed"].numpy(), axis=1).reshape(found.shape)
    assert (found != wanted).mean((1, 2)).max() <= 0.001


def test_sam_from_a_released_file(tmp_path: Path) -> None:
    convert("sam", released("sam_tiny", tmp_path, wrapped=False), tmp_path / "s")
    assert json.loads((tmp_path / "s" / "config.json").read_text())["model_type"] == "sam"
    (tmp_path / "usual").touch()
    usual = (tmp_path / "usual").stat().st_mode
    assert {path.stat().st_mode for path in (tmp_path / "s").iterdir()} == {usual}
    registry.load_segmenter(tmp_path / "s", CPU)


# --- refusals leave nothing behind


def test_an_existing_output_is_kept(tmp_path: Path) -> None:
    checkpoint = golden_dir("sam_tiny") / "checkpoint.safetensors"
    output = tmp_path / "s"
    output.mkdir()
    convert("sam", checkpoint, output)  # an empty directory is as good as none
    before = sorted(path.stat().st_mtime_ns for path in output.iterdir())
    with pytest.raises(UserError, match="already exists"):
        convert("sam", checkpoint, output)
    assert sorted(path.stat().st_mtime_ns for path in output.iterdir()) == before


def test_a_checkpoint_that_does_not_fit_leaves_nothing(tmp_path: Path) -> None:
    state = load_file(golden_dir("sam_tiny") / "checkpoint.safetensors")
    del state["mask_decoder.iou_token.weight"]
    save_file(state, tmp_path / "broken.safetensors")
    (tmp_path / "not.pth").write_bytes(b"<html>404</html>")
    for kind, name, message in (
        ("sam", "broken.safetensors", r"mask_decoder\.iou_token\.weight is missing"),
        ("sam", "not.pth", "cannot be read as a checkpoint"),
        ("grounding-dino", "broken.safetensors", "is not a Grounding DINO checkpoint"),
        ("sam", "nowhere.pth", "no checkpoint at"),
    ):
        options = {"tokenizer": golden_dir("gdino_tiny") / "vocab.txt"} if kind != "sam" else {}
        with pytest.raises(UserError, match=message):
            convert(kind, tmp_path / name, tmp_path / "out" / "model", **options)
    left = list((tmp_path / "out").iterdir()) if (tmp_path / "out").exists() else []
    assert left == []


def test_options_are_checked_before_anything_is_read(tmp_path: Path) -> None:
    checkpoint = released("ram_tiny", tmp_path, wrapped=True)
    with pytest.raises(UserError, match=r"a list of 50 tags; the one given has 4585"):
        convert("ram", checkpoint, tmp_path / "out")  # the released list is taken
    with pytest.raises(UserError, match="sam takes no tags"):
        convert("sam", checkpoint, tmp_path / "out", tags="tags.txt")
    with pytest.raises(UserError, match="unknown kind of model 'yolo'"):
        convert("yolo", checkpoint, tmp_path / "out")  # type: ignore[arg-type]
    config = json.loads((golden_dir("ram_tiny") / "config.json").read_text())
    count = len(config["tags"])
    tags = write_lines(tmp_path / "tags.txt", config["tags"])
    limits = write_lines(tmp_path / "thresholds.txt", config["thresholds"][1:])
    with pytest.raises(UserError, match=rf"{count - 1} thresholds for the {count} tags"):
        convert("ram", checkpoint, tmp_path / "out", tags=tags, thresholds=limits)
    with pytest.raises(UserError, match="of ram, not of ram-plus"):
        convert("ram-plus", checkpoint, tmp_path / "out", tags=tags)


def test_a_place_that_cannot_be_written_is_named(tmp_path: Path) -> None:
    (tmp_path / "file").write_text("")
    checkpoint = golden_dir("sam_tiny") / "checkpoint.safetensors"
    with pytest.raises(UserError, match="cannot be written"):
        convert("sam", checkpoint, tmp_path / "file" / "model")


# --- loading by reference


def test_a_directory_of_another_role_is_refused(tmp_path: Path) -> None:
    convert("sam", golden_dir("sam_tiny") / "checkpoint.safetensors", tmp_path / "s")
    with pytest.raises(UserError, match="is of type 'sam', not a detector"):
        registry.load_detector(tmp_path / "s", CPU)
    with pytest.raises(UserError, match="is of type 'sam', not a tagger"):
        registry.load_tagger(tmp_path / "s", CPU)
    (tmp_path / "s" / "config.json").unlink()
    with pytest.raises(UserError, match=r"holds no config\.json"):
        registry.load_segmenter(tmp_path / "s", CPU)
    with pytest.raises(UserError, match="does not hold its tags"):
        registry.load_tagger(golden_dir("ram_tiny") / "checkpoint.safetensors", CPU)


def test_models_are_found_by_name_in_the_models_folder(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("PAD_MODELS", str(tmp_path))
    convert("ram", golden_dir("ram_tiny") / "checkpoint.safetensors", tmp_path / "ram")
    tagger = registry.load_tagger("ram", CPU)
    config = json.loads((golden_dir("ram_tiny") / "config.json").read_text())
    assert list(tagger.model.config.tags) == config["tags"]  # type: ignore[attr-defined]
    original = golden_dir("sam_tiny")
    for file in ("checkpoint.safetensors", "config.json"):
        shutil.copy(original / file, tmp_path / file)
    registry.load_segmenter("checkpoint.safetensors", CPU)
    with pytest.raises(UserError, match="there is no model 'ram-plus'"):
        registry.load_tagger("ram-plus", CPU)
