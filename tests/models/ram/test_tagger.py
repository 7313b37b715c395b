"""Images to tags with RAM and RAM++."""

from __future__ import annotations

import json
import re
from dataclasses import replace

import numpy as np
import pytest
import torch
from PIL import Image
from safetensors.torch import load_file

from pad_pipeline.errors import UserError
from pad_pipeline.models.base import Runtime
from pad_pipeline.models.ram.config import RamConfig
from pad_pipeline.models.ram.load import load_ram, save_ram
from pad_pipeline.models.ram.tagger import RamTagger, preprocess
from tests.golden_data import golden_dir
from tests.models.ram.golden import BOTH, read_config, read_model, some_images


def test_photo_has_the_tags_of_the_reference_pipeline():
    photo = np.asarray(Image.open(golden_dir("pipeline_e2e") / "image.png").convert("RGB"))
    expected = json.loads((golden_dir("pipeline_e2e") / "expected.json").read_text())
    tagger = RamTagger(read_model("ram_tiny"))
    tags = tagger.tag([photo])[0]
    assert " | ".join(tag.tag for tag in tags) == expected["ram_tags"]
    scores = dict(zip(tagger.model.config.tags, tagger.score([photo])[0].tolist(), strict=True))
    assert all(tag.score == scores[tag.tag] for tag in tags)


def test_preprocessing_equals_the_reference_pipeline():
    photo = np.asarray(Image.open(golden_dir("sam_tiny") / "landscape.png").convert("RGB"))
    tensors = load_file(golden_dir("preprocess") / "tensors.safetensors")
    sizes = {
        name: int(found[1])
        for name in tensors
        if (found := re.fullmatch(r"ram_(\d+)_pipeline", name))
    }
    assert sizes
    for name, size in sizes.items():
        config = replace(read_config("ram_tiny"), image_size=size)
        pixels = preprocess([photo], config)[0]
        torch.testing.assert_close(pixels, tensors[name], atol=1e-6, rtol=0)
        bilinear = preprocess([photo], replace(config, resize_filter="bilinear"))[0]
        assert (bilinear - pixels).abs().max() > 0.01


@BOTH
def test_batches_do_not_change_the_tags(name: str):
    images, tagger = some_images(), RamTagger(read_model(name))
    assert len(images) > 2
    whole = tagger.score(images)
    parts = np.concatenate([tagger.score(images[:2]), tagger.score(images[2:])])
    np.testing.assert_allclose(whole, parts, atol=1e-5)
    assert tagger.tag([]) == []
    assert tagger.score([]).shape == (0, whole.shape[1])


def test_a_tag_is_given_strictly_above_its_threshold_unless_deleted():
    model, images = read_model("ram_tiny"), some_images()[:1]
    scores = RamTagger(model).score(images)[0]
    config, last = model.config, len(model.config.tags) - 1
    equal = replace(config, thresholds=tuple(scores.tolist()))
    below = replace(config, thresholds=tuple(np.nextafter(scores, np.float32(0)).tolist()))
    deleted = replace(below, delete_tag_index=(0, last))

    def names(config: RamConfig) -> list[str]:
        model.config = config
        return [tag.tag for tag in RamTagger(model).tag(images)[0]]

    assert names(equal) == []
    assert names(below) == list(config.tags)
    assert names(deleted) == [tag for i, tag in enumerate(config.tags) if i not in (0, last)]


@BOTH
@pytest.mark.parametrize(("dtype", "most"), [("bfloat16", 0.05), ("float16", 0.01)])
def test_half_precision_is_close(name: str, dtype: str, most: float, tmp_path):
    save_ram(read_model(name), tmp_path)
    exact = load_ram(tmp_path).score(some_images())
    half = load_ram(tmp_path, Runtime(dtype=dtype))
    assert {tensor.dtype for tensor in half.model.parameters()} == {half.runtime.torch_dtype}
    scores = half.score(some_images())
    assert scores.dtype == np.float32
    assert 0 < np.abs(scores - exact).max() < most


def test_runs_are_identical():
    first, second = (RamTagger(read_model("ram_tiny")).tag(some_images()) for _ in range(2))
    assert first == second


def test_a_missing_gpu_is_reported():
    if torch.cuda.is_available():
        pytest.skip("this machine has a GPU")
    with pytest.raises(UserError, match="CUDA"):
        RamTagger(read_model("ram_tiny"), Runtime(device="cuda"))


@pytest.mark.gpu
@pytest.mark.skipif(not torch.cuda.is_available(), reason="needs a CUDA GPU")
@BOTH
def test_gpu_gives_the_scores_of_the_cpu(name: str, tmp_path):
    save_ram(read_model(name), tmp_path)
    on_gpu = load_ram(tmp_path, Runtime(device="cuda")).score(some_images())
    np.testing.assert_allclose(on_gpu, load_ram(tmp_path).score(some_images()), atol=0.02)
