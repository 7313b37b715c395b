"""SAM 3 as a detector: what it finds, what it reuses, what it refuses."""

from __future__ import annotations

import json
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from PIL import Image
from safetensors.torch import load_file, save_file

from pad_pipeline import masks
from pad_pipeline.errors import UserError
from pad_pipeline.models.base import Runtime
from pad_pipeline.models.protocols import Boxes
from pad_pipeline.models.registry import load_detector, load_mask_detector
from pad_pipeline.models.sam3.detector import Sam3Detector
from pad_pipeline.models.sam3.load import load_sam3
from tests.models.sam3 import tiny
from tests.models.sam3.test_network import images

TAGS = [["dog", "red car", "sky"], [], ["sky", "dog"]]
THRESHOLD = 0.3


def everything(index: int, boxes: Boxes) -> list[int]:
    return list(range(len(boxes.labels)))


@pytest.fixture(scope="module")
def folder(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return tiny.write_model(tmp_path_factory.mktemp("sam3"))


def load(folder: Path, **options: Any) -> Sam3Detector:
    return load_sam3(folder, Runtime(), **{"box_threshold": THRESHOLD, **options})


def three_images() -> list[np.ndarray]:
    first, second = images()
    return [first, first, second]


def test_boxes_scores_and_masks_are_those_of_transformers_processor(folder: Path) -> None:
    """Its `post_process_instance_segmentation`, which needs torchvision, by hand."""
    detector = load(folder)
    image = images()[0]
    resized = np.asarray(Image.fromarray(image).resize((56, 56), Image.Resampling.BILINEAR))
    pixels = torch.from_numpy(resized / 127.5 - 1).permute(2, 0, 1).float()
    torch.testing.assert_close(detector.pixels(image), pixels)
    [found] = detector.detect_masks([image], [["dog"]], everything)
    text = tiny.tokenizer()("dog", return_tensors="pt", padding="max_length", max_length=32)
    with torch.inference_mode():
        output = tiny.random_model()(pixel_values=pixels[None], **text)
    scores = (output.pred_logits.sigmoid() * output.presence_logits.sigmoid())[0]
    kept = scores > THRESHOLD
    assert len(found.masks) == kept.sum() > 1
    np.testing.assert_allclose(found.boxes.scores, scores[kept], atol=1e-4)
    sides = torch.tensor([60, 40, 60, 40])
    np.testing.assert_allclose(found.boxes.xyxy, output.pred_boxes[0, kept] * sides, atol=1e-3)
    assert found.presence == {"dog": pytest.approx(output.presence_logits.sigmoid().item(), 1e-4)}
    low_res = output.pred_masks[:, kept].sigmoid()
    full = torch.nn.functional.interpolate(low_res, (40, 60), mode="bilinear") > 0.5
    for mask, theirs in zip(found.masks, full[0].numpy(), strict=True):
        own = masks.decode(mask.counts, mask.height, mask.width)
        # transformers enlarges probabilities, this and the authors' own code logits: outlines
        # may differ
        assert np.mean(own != theirs) < 0.03
        assert (mask.area, mask.predicted_iou) == (own.sum(), 1.0)


def test_images_together_are_as_one_at_a_time(folder: Path) -> None:
    together = load(folder, max_pairs=4).detect_masks(three_images(), TAGS, everything)
    boxes = load(folder, max_pairs=4).detect(three_images(), TAGS)
    alone = load(folder, max_pairs=1)
    for index, (found, image, tags) in enumerate(zip(together, three_images(), TAGS, strict=True)):
        [own] = alone.detect_masks([image], [tags], everything)
        assert own.boxes.labels == found.boxes.labels == boxes[index].labels
        np.testing.assert_allclose(own.boxes.xyxy, found.boxes.xyxy, atol=1e-3)
        np.testing.assert_allclose(own.boxes.scores, found.boxes.scores, atol=1e-5)
        np.testing.assert_array_equal(boxes[index].xyxy, found.boxes.xyxy)
        assert [mask.counts for mask in own.masks] == [mask.counts for mask in found.masks]
        assert own.presence == pytest.approx(found.presence, abs=1e-5)
        assert list(found.presence) == tags
    assert together[1].masks == ()
    assert len(together[0].masks) > 3


def test_masks_are_drawn_of_the_chosen_boxes_in_their_order(folder: Path) -> None:
    detector = load(folder)
    [every] = detector.detect_masks(three_images()[:1], TAGS[:1], everything)
    order = [5, 0, 3]
    [some] = detector.detect_masks(three_images()[:1], TAGS[:1], lambda *_: order)
    assert some.boxes.labels == tuple(every.boxes.labels[box] for box in order)
    assert some.masks == tuple(every.masks[box] for box in order)
    [none] = detector.detect_masks(three_images()[:1], TAGS[:1], lambda *_: [])
    assert (none.masks, none.boxes.labels, none.presence) == ((), (), every.presence)


def test_an_image_is_encoded_once_and_a_word_once_for_all(folder: Path) -> None:
    detector = load(folder, max_pairs=2)
    passes: list[int] = []
    detector.model.vision_encoder.register_forward_hook(
        lambda module, given, output: passes.append(len(given[0]))
    )
    first = detector.detect_masks(three_images(), TAGS, everything)
    again = detector.detect_masks(three_images(), TAGS, everything)
    assert passes == [2, 2]
    assert detector.words.num_encoded == 3
    assert [one.masks for one in first] == [one.masks for one in again]
    fresh = load(folder).words.encode(["sky", "dog"])
    kept = detector.words.encode(["sky", "dog"])
    assert detector.words.num_encoded == 3
    assert torch.equal(fresh.features_RTC, kept.features_RTC)
    assert torch.equal(fresh.is_token_RT, kept.is_token_RT)


def test_stability_is_measured_where_it_is_asked_for(folder: Path) -> None:
    [plain] = load(folder).detect_masks(images()[:1], [["dog"]], everything)
    [found] = load(folder, stability=True).detect_masks(images()[:1], [["dog"]], everything)
    assert all(mask.stability is None for mask in plain.masks)
    assert all(0 <= (mask.stability or 0) <= 1 for mask in found.masks)
    assert [replace(mask, stability=None) for mask in found.masks] == list(plain.masks)


def test_a_tag_past_the_models_length_is_cut_and_named(folder: Path, caplog) -> None:
    long = "word " * 20
    detector = load(folder)
    assert detector.words.encode([long, "dog"]).is_token_RT.sum(1).tolist() == [32, 5]
    assert "tags are cut to the 32 tokens that SAM 3 reads: word word" in caplog.text


def test_half_precision_finds_about_the_same(folder: Path) -> None:
    half = load_sam3(folder, Runtime(dtype="bfloat16"), box_threshold=0.0)
    [found] = half.detect_masks(images()[:1], [["dog"]], everything)
    [exact] = load(folder, box_threshold=0.0).detect_masks(images()[:1], [["dog"]], everything)
    assert np.abs(found.boxes.xyxy - exact.boxes.xyxy).max() < 2
    assert half.model.detr_decoder.box_head.layer1.weight.dtype == torch.float32
    assert half.model.vision_encoder.dtype == torch.bfloat16


def test_numbers_that_overflow_are_refused(folder: Path) -> None:
    detector = load(folder)
    detector.model.detr_decoder.presence_token.weight.data.fill_(float("nan"))
    with pytest.raises(FloatingPointError, match="overflow float32"):
        detector.detect(images()[:1], [["dog"]])


def test_the_released_repository_holds_the_video_tracker_too(folder: Path, tmp_path: Path) -> None:
    """`facebook/sam3` is of type sam3_video: the detector's weights have a prefix there."""
    state = load_file(folder / "model.safetensors")
    renamed = {f"detector_model.{name}": tensor for name, tensor in state.items()}
    renamed |= {"tracker_model.a": torch.zeros(1), "tracker_neck.b": torch.zeros(1)}
    tiny.tokenizer().save_pretrained(tmp_path)
    save_file(renamed, tmp_path / "model.safetensors", metadata={"format": "pt"})
    whole = {"model_type": "sam3_video", "tracker_config": {"model_type": "sam3_tracker_video"}}
    whole["detector_config"] = json.loads((folder / "config.json").read_text())
    (tmp_path / "config.json").write_text(json.dumps(whole))
    loaded = load_mask_detector(tmp_path, Runtime()).model.state_dict()  # type: ignore
    assert loaded.keys() == state.keys()
    assert all(torch.equal(state[name], loaded[name]) for name in state)


def test_what_cannot_be_loaded_says_why(folder: Path, tmp_path: Path) -> None:
    with pytest.raises(UserError, match=r"detect.label_mode='phrase' is for Grounding DINO"):
        load_detector(folder, Runtime(), label_mode="phrase")
    with pytest.raises(UserError, match=r"detect.pad_to='canvases' is for Grounding DINO"):
        load_detector(folder, Runtime(), pad_to="canvases")
    with pytest.raises(UserError, match="'grounding-dino', not a detector that draws masks"):
        load_mask_detector("embedded", Runtime())
    (tmp_path / "dino.pth").write_bytes(b"")
    with pytest.raises(UserError, match="draws no masks: a file is a checkpoint of Grounding DINO"):
        load_mask_detector(tmp_path / "dino.pth", Runtime())
    bare = tmp_path / "bare"
    bare.mkdir()
    for name in ("config.json", "model.safetensors"):
        (bare / name).write_bytes((folder / name).read_bytes())
    with pytest.raises(UserError, match=f"there is no tokenizer in {bare} .it knows no words"):
        load_mask_detector(bare, Runtime())
    state = load_file(folder / "model.safetensors")
    del state["mask_decoder.instance_projection.weight"]
    tiny.tokenizer().save_pretrained(bare)
    save_file(state, bare / "model.safetensors", metadata={"format": "pt"})
    with pytest.raises(UserError, match=r"1 missing \(mask_decoder.instance_projection.weight\)"):
        load_mask_detector(bare, Runtime())
