"""Grounding DINO as a detector: boxes, labels and scores, whatever shares its batch."""

from __future__ import annotations

import json
import re
from concurrent.futures import ThreadPoolExecutor

import numpy as np
import pytest
import torch
from PIL import Image
from safetensors.torch import load_file

from pad_pipeline.boxes import nms
from pad_pipeline.models.base import Runtime
from pad_pipeline.models.grounding_dino.detector import GroundingDinoDetector, to_pixels
from pad_pipeline.models.grounding_dino.load import to_runtime
from pad_pipeline.models.grounding_dino.preprocessing import (
    Preprocessing,
    canvas_of,
    resized_size,
)
from pad_pipeline.models.grounding_dino.prompts import PromptError, build_prompts
from tests.golden_data import golden_dir
from tests.models.grounding_dino.golden import SMALL, TOLERANCE, Golden


@pytest.fixture(scope="module")
def tiny() -> Golden:
    return Golden("gdino_tiny")


@pytest.fixture(scope="module")
def photo() -> np.ndarray:
    image = Image.open(golden_dir("pipeline_e2e") / "image.png").convert("RGB")
    return np.asarray(image)


def test_resized_sizes_are_the_originals():
    listed = json.loads(golden_dir("preprocess/resize_sizes.json").read_text())
    failing = 0
    for case in listed:
        width, height = case["original_wh"]
        limits = {name: re.fullmatch(r"gdino_(\d+)_(\d+)_wh", name) for name in case}
        for name, match in limits.items():
            if match is None:
                continue
            shortest, longest = int(match[1]), int(match[2])
            found = resized_size(height, width, shortest, longest)
            expected = case[name]
            if expected is None:
                failing += 1
                assert min(found) == 1
                assert 1 <= max(found) <= longest
            else:
                assert found == tuple(expected[::-1]), case["original_wh"]
    assert failing


def test_resized_pixels_are_the_originals(tiny):
    photo = np.asarray(Image.open(golden_dir("sam_tiny/landscape.png")).convert("RGB"))
    tensors = load_file(golden_dir("preprocess/tensors.safetensors"))
    paths = sorted(golden_dir("preprocess").glob("gdino_*.png"))
    assert paths
    assert {path.stem for path in paths} & tensors.keys()
    for path in paths:
        shortest, longest = map(int, path.stem.split("_")[1:])
        expected = np.asarray(Image.open(path))
        detector = tiny.detector(preprocessing=Preprocessing(shortest, longest))
        pixels = detector.pixels([photo])
        mean, std = (torch.tensor(numbers)[:, None, None] for numbers in (SMALL.mean, SMALL.std))
        levels = ((pixels[0] * std + mean) * 255).round().permute(1, 2, 0).numpy()
        assert levels.shape == expected.shape
        assert np.abs(levels - expected.astype(np.float32)).max() <= 1
        if path.stem in tensors:
            assert (pixels[0] - tensors[path.stem]).abs().max() < 0.02  # one grey level


def test_reference_pipeline_up_to_suppression(tiny, photo):
    folder = golden_dir("pipeline_e2e")
    expected = json.loads((folder / "expected.json").read_text())
    tensors = load_file(folder / "expected.safetensors")
    detector = tiny.detector(
        preprocessing=Preprocessing(*expected["gdino_resize"]),
        box_threshold=expected["box_threshold"],
        text_threshold=expected["text_threshold"],
        label_mode="phrase",
    )
    [found] = detector.detect([photo], [expected["ram_tags"].split(" | ")])
    wanted = tensors["boxes_xyxy_before_nms"].numpy()
    np.testing.assert_allclose(found.xyxy, wanted, atol=TOLERANCE * max(photo.shape))
    np.testing.assert_allclose(found.scores, tensors["scores"].numpy(), atol=TOLERANCE)
    glued = [
        f"{label}({str(float(score))[:4]})"
        for label, score in zip(found.labels, found.scores, strict=True)
    ]
    assert glued == expected["phrases_before_nms"]
    kept = nms(found.xyxy, found.scores, expected["iou_threshold"])
    assert kept.tolist() == tensors["nms_idx"].tolist()


def assert_same(found, wanted, pixels: float = 0.03):
    assert found.labels == wanted.labels
    assert found.num_prompts == wanted.num_prompts
    np.testing.assert_allclose(found.xyxy, wanted.xyxy, atol=pixels)
    np.testing.assert_allclose(found.scores, wanted.scores, atol=TOLERANCE)
    assert found.xyxy.dtype == found.scores.dtype == np.float32


def test_batch_of_different_sizes_and_tags_equals_singles(tiny, photo):
    images = [
        photo,
        photo[:150, :200],
        photo[:, ::-1].copy(),
        photo.transpose(1, 0, 2).copy(),
        photo,
    ]
    tags = [["dog", "red car"], ["cat"], ["tree", "traffic light", "house"], ["sky"], []]
    for max_pairs in (1, 8):
        detector = tiny.detector(max_pairs=max_pairs, box_threshold=0.0)
        batch = detector.detect(images, tags)
        for found, image, names in zip(batch, images, tags, strict=True):
            [alone] = detector.detect([image], [names])
            assert_same(found, alone)
    assert [len(found.labels) > 0 for found in batch] == [True, True, True, True, False]
    assert batch[-1].num_prompts == 0


@pytest.fixture(scope="module")
def of_one_canvas(photo) -> list[np.ndarray]:
    """Images of three sizes, all of which are padded to 112 × 150."""
    height, width = 224, 300
    photo = np.asarray(Image.fromarray(photo).resize((width, height)))
    return [photo, photo[:, :280], photo[:, 10:298]]


def test_images_on_a_canvas_are_found_as_transformers_finds_them(tiny, of_one_canvas):
    detector = tiny.detector(pad_to="canvases", box_threshold=0.0)
    assert {detector.input_size(*image.shape[:2]) for image in of_one_canvas} == {(112, 150)}
    together = detector.detect(of_one_canvas, [["dog", "red car"]] * 3)
    pixels = detector.pixels(of_one_canvas)
    ids = tiny.tokenizer("dog. red car.", return_tensors="pt")["input_ids"]
    for index, (image, found) in enumerate(zip(of_one_canvas, together, strict=True)):
        height, width = resized_size(*image.shape[:2], 112, 187)
        assert pixels[index, :, :, width:].eq(0).all()
        mask = torch.zeros(1, 112, 150, dtype=torch.long)
        mask[:, :height, :width] = 1
        with torch.inference_mode():
            expected = detector.model(
                pixel_values=pixels[index : index + 1], pixel_mask=mask, input_ids=ids
            )
        boxes = to_pixels(expected.pred_boxes[0].numpy(), *image.shape[:2])
        np.testing.assert_allclose(found.xyxy, boxes, atol=TOLERANCE * max(image.shape))
        tokens = expected.logits[0].sigmoid()
        scores = torch.stack([tokens[:, 1], tokens[:, 3:5].mean(1)]).amax(0)
        np.testing.assert_allclose(found.scores, scores.numpy(), atol=TOLERANCE)
        [alone] = detector.detect([image], [["dog", "red car"]])
        assert_same(found, alone)


def test_padding_changes_what_is_found_and_what_fits_is_as_it_was(tiny, of_one_canvas):
    """Padding is masked, but Swin's windows and the norms of the levels see it."""
    tags = [["dog", "red car"]] * 3
    own = tiny.detector(box_threshold=0.0).detect(of_one_canvas, tags)
    padded = tiny.detector(pad_to="canvases", box_threshold=0.0).detect(of_one_canvas, tags)
    assert_same(padded[0], own[0])
    for found, alone in zip(padded[1:], own[1:], strict=True):
        # random weights reorder the queries
        assert np.abs(np.sort(found.scores) - np.sort(alone.scores)).max() > 100 * TOLERANCE


def test_every_size_has_a_canvas_that_holds_it_and_there_are_few():
    settings, canvases = Preprocessing(), set()
    for height in range(10, 1500, 37):
        for width in range(10, 1500, 41):
            size = resized_size(height, width, 800, 1333)
            canvas = canvas_of(size, settings)
            assert all(side <= room for side, room in zip(size, canvas, strict=True))
            canvases.add(canvas)
    usual = {canvas for canvas in canvases if max(canvas) <= 1346}
    assert len(usual) == 11
    assert canvas_of((800, 1066), settings) == (800, 1066)  # 4 : 3, as most photos have
    assert canvas_of((800, 1200), settings) == (800, 1200)  # 3 : 2


def test_many_tags_are_split_and_none_is_lost(tiny, photo):
    vocabulary = [word for word in tiny.tokenizer.get_vocab() if word.isalpha() and len(word) > 2]
    first, second, *_ = build_prompts(sorted(vocabulary), tiny.tokenizer)
    tags, num_first = [*first.tags, *second.tags], len(first.tags)
    detector = tiny.detector(box_threshold=0.0, max_pairs=1)
    [found] = detector.detect([photo], [tags])
    assert found.num_prompts == 2
    num_queries = tiny.config["num_queries"]
    assert len(found.labels) == 2 * num_queries
    [first] = detector.detect([photo], [tags[:num_first]])
    [second] = detector.detect([photo], [tags[num_first:]])
    assert (first.num_prompts, second.num_prompts) == (1, 1)
    assert found.labels == first.labels + second.labels
    np.testing.assert_allclose(found.xyxy, np.concatenate([first.xyxy, second.xyxy]), atol=0.03)
    [together] = tiny.detector(box_threshold=0.0, max_pairs=8).detect([photo], [tags])
    assert_same(together, found)


def test_threads_that_share_a_detector_find_what_one_finds(tiny, photo):
    images = [photo[:, : 200 + 10 * index] for index in range(4)]
    tags = [["dog", "red car"], ["cat"], ["tree", "dog"], ["red car"]]
    expected = tiny.detector(box_threshold=0.0).detect(images, tags)
    shared = tiny.detector(box_threshold=0.0)
    with ThreadPoolExecutor(2) as threads:
        for _ in range(2):
            found = list(threads.map(lambda *job: shared.detect(*job), [images] * 4, [tags] * 4))
            for one in found:
                for ours, alone in zip(one, expected, strict=True):
                    np.testing.assert_array_equal(ours.xyxy, alone.xyxy)
                    np.testing.assert_array_equal(ours.scores, alone.scores)


def test_an_images_prompts_share_one_encoding(tiny, photo):
    detector = tiny.detector(max_pairs=1)
    passes = []
    embeddings = detector.model.model.backbone.conv_encoder.model.swin.embeddings
    embeddings.register_forward_hook(lambda *_: passes.append(1))
    tags = sorted(word for word in tiny.tokenizer.get_vocab() if word.isalpha())[:300]
    [found] = detector.detect([photo], [tags])
    assert found.num_prompts > 1
    assert len(passes) == 1


def test_span_labels_are_tags_and_scores_their_mean(tiny, photo):
    tags = ["Traffic Light", "red car", "dog"]
    detector = tiny.detector(box_threshold=0.0)
    [found] = detector.detect([photo], [tags])
    sentence = tiny.tokenizer("traffic light. red car. dog.")["input_ids"]
    pixels = detector.pixels([photo])
    with torch.inference_mode():
        output = detector.model(pixel_values=pixels, input_ids=torch.tensor([sentence]))
    probabilities = output.logits[0].sigmoid().numpy()
    start, means = 1, []
    for tag in tags:
        stop = start + len(tiny.tokenizer(tag, add_special_tokens=False)["input_ids"])
        means.append(probabilities[:, start:stop].mean(1))
        start = stop + 1  # the full stop
    means = np.stack(means, 1)
    np.testing.assert_allclose(found.scores, means.max(1), atol=TOLERANCE)
    assert found.labels == tuple(tags[index] for index in means.argmax(1))


def test_thresholds_are_strict(tiny, photo):
    [everything] = tiny.detector(box_threshold=0.0).detect([photo], [["dog", "cat"]])
    threshold = float(np.sort(everything.scores)[len(everything.scores) // 3])
    [found] = tiny.detector(box_threshold=threshold).detect([photo], [["dog", "cat"]])
    assert len(found.scores) == (everything.scores > threshold).sum() < len(everything.scores)
    assert (found.scores > threshold).all()


@pytest.mark.parametrize("shape", [(1, 400), (400, 1), (1, 1), (3, 5)])
def test_the_smallest_images_have_boxes(tiny, shape):
    """The original fails on some: a side rounds to 0, or there are fewer tokens than queries."""
    image = np.full((*shape, 3), 127, np.uint8)
    [found] = tiny.detector(box_threshold=0.0).detect([image], [["dog"]])
    assert len(found.labels) > 0
    assert np.isfinite(found.xyxy).all()


def test_images_without_tags_are_skipped(tiny, photo):
    detector = tiny.detector()
    detector.network = None  # would raise
    for found in detector.detect([photo, photo], [[], ["", " "]]):
        assert found.xyxy.shape == (0, 4)
        assert found.scores.shape == (0,)
        assert (found.labels, found.num_prompts) == ((), 0)
    assert detector.detect([], []) == []


def test_a_tag_too_long_is_refused_before_anything_runs(tiny, photo):
    detector = tiny.detector()
    detector.network = None  # would raise another error
    long = " ".join(["dog"] * 300)
    length = len(tiny.tokenizer(long, add_special_tokens=False, verbose=False)["input_ids"])
    with pytest.raises(PromptError, match=f"{length} tokens"):
        detector.detect([photo, photo], [["dog"], [long]])


def test_numbers_that_overflow_are_an_error_not_an_empty_image(tiny, photo):
    detector = tiny.detector()
    detector.model.model.text_projection.weight.data.fill_(float("nan"))
    with pytest.raises(FloatingPointError, match="float32"):
        detector.detect([photo], [["dog"]])


def test_bfloat16_is_near_and_keeps_boxes_in_float32(tiny, photo):
    runtime = Runtime(dtype="bfloat16")
    model = to_runtime(tiny.model(), runtime)
    assert model.bbox_embed[0].layers[0].weight.dtype == torch.float32
    assert model.model.text_projection.weight.dtype == torch.bfloat16
    detector = GroundingDinoDetector(
        model, tiny.tokenizer, runtime, preprocessing=SMALL, box_threshold=0.0
    )
    [found] = detector.detect([photo], [["dog", "red car"]])
    [exact] = tiny.detector(box_threshold=0.0).detect([photo], [["dog", "red car"]])
    assert found.scores.dtype == np.float32
    assert np.abs(np.sort(found.scores) - np.sort(exact.scores)).mean() < 0.02
