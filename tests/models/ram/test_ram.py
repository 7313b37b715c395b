"""RAM and RAM++ against the outputs of the original models."""

from __future__ import annotations

import json
from dataclasses import replace

import numpy as np
import pytest
import torch
from PIL import Image
from safetensors.torch import load_file
from torch import Tensor

from pad_pipeline.errors import UserError
from pad_pipeline.models.base import Runtime
from pad_pipeline.models.ram.config import RamConfig, config_from_golden, read_tags, read_thresholds
from pad_pipeline.models.ram.load import load_ram, save_ram
from pad_pipeline.models.ram.network import RecognizeAnything
from pad_pipeline.models.ram.state_dict import (
    build_ram,
    convert_ram_checkpoint,
    infer_ram_config,
    load_ram_checkpoint,
)
from pad_pipeline.models.ram.tagger import RamTagger, preprocess
from pad_pipeline.verify.ram import golden_outputs
from tests.golden_data import golden_dir

BOTH = pytest.mark.parametrize("name", ["ram_tiny", "ram_plus_tiny"])


def read_config(name: str) -> RamConfig:
    return config_from_golden(json.loads((golden_dir(name) / "config.json").read_text()))


def read_model(name: str) -> RecognizeAnything:
    config = read_config(name)
    state = load_file(golden_dir(name) / "checkpoint.safetensors")
    return build_ram(config, convert_ram_checkpoint(state, config, source=name), source=name)


def read_pixels(name: str) -> Tensor:
    return load_file(golden_dir(name) / "inputs.safetensors")["image"]


def some_images() -> list[np.ndarray]:
    rng = np.random.default_rng(1)
    return [rng.integers(0, 256, (*shape, 3), np.uint8) for shape in ((60, 80), (128, 128), (9, 5))]


# --- what the network computes -----------------------------------------------------------------


@BOTH
@torch.no_grad()
def test_every_golden_tensor(name: str):
    expected = load_file(golden_dir(name) / "expected.safetensors")
    outputs = golden_outputs(read_model(name), read_pixels(name))
    assert outputs.keys() == expected.keys()
    for key, tensor in expected.items():
        assert outputs[key].shape == tensor.shape, key
        assert outputs[key].dtype == tensor.dtype, key
        if tensor.dtype == torch.bool:
            assert torch.equal(outputs[key], tensor), key
        else:
            torch.testing.assert_close(outputs[key], tensor, atol=1e-4, rtol=0, msg=key)
    tags = read_config(name).tags
    fired = [[tags[i] for i in row.nonzero()[:, 0]] for row in outputs["fired"]]
    assert fired == json.loads((golden_dir(name) / "expected.json").read_text())["tags"]


@BOTH
@torch.no_grad()
def test_a_batch_equals_its_images_alone(name: str):
    model, pixels = read_model(name), read_pixels(name)
    alone = torch.cat([model(image[None]) for image in pixels])
    torch.testing.assert_close(model(pixels), alone, atol=1e-5, rtol=0)


@BOTH
def test_gradients_reach_every_parameter(name: str):
    model = read_model(name).train()
    with torch.no_grad():
        without = model(read_pixels(name)[:1])
    logits = model(read_pixels(name)[:1])
    torch.testing.assert_close(logits, without)
    logits.square().sum().backward()
    for key, parameter in model.named_parameters():
        assert parameter.grad is not None, key
        assert parameter.grad.abs().max() > 0, key


@torch.no_grad()
def test_kept_labels_follow_the_parameters():
    model, pixels = read_model("ram_tiny"), read_pixels("ram_tiny")[:1]
    before = model(pixels)
    assert model.labels() is model.labels()

    def logits_of_a_new_model() -> Tensor:
        fresh = RecognizeAnything(model.config)
        fresh.load_state_dict(model.state_dict())
        return fresh.eval()(pixels)

    model.train()
    model.label_embed.mul_(0.5)
    model.eval()
    after = model(pixels)
    assert (after - before).abs().max() > 1e-3
    torch.testing.assert_close(after, logits_of_a_new_model())

    state = model.state_dict()
    model.load_state_dict({**state, "label_embed": state["label_embed"] * 2})
    torch.testing.assert_close(model(pixels), before)
    assert model.double()(pixels.double()).dtype == torch.float64


def test_labels_are_not_kept_while_gradients_are_taken():
    model = read_model("ram_tiny")
    with torch.no_grad():
        model(read_pixels("ram_tiny")[:1])
    model(read_pixels("ram_tiny")[:1]).sum().backward()
    assert model.label_embed.grad is not None


@torch.no_grad()
def test_a_stage_smaller_than_the_window_has_a_window_of_its_own_size():
    sizes = {"tags": ("a", "b"), "thresholds": (0.5, 0.5), "image_size": 16, "patch_size": 4,
             "embed_dim": 8, "depths": (2, 2), "num_heads": (2, 2), "hidden_size": 16,
             "intermediate_size": 16, "image_proj_dim": 8, "label_dim": 8}  # fmt: skip
    # a 4x4 and a 2x2 grid; with the window of 2 transformers needs no help at the last stage
    wide, exact = (
        RecognizeAnything(RamConfig(window_size=window, **sizes)).eval() for window in (3, 2)
    )
    last = "visual_encoder.encoder.layers.1."
    wanted = {key: tuple(t.shape) for key, t in exact.state_dict().items() if last in key}
    assert {k: tuple(t.shape) for k, t in wide.state_dict().items() if last in k} == wanted
    state = {key: torch.randn(t.shape) for key, t in exact.state_dict().items() if last in key}
    hidden = torch.randn(1, 4, 16)
    outputs = []
    for model in (wide, exact):
        model.load_state_dict({**model.state_dict(), **state})
        outputs.append(model.visual_encoder.encoder.layers[1](hidden, (2, 2))[0])
        assert model(torch.randn(1, 3, 16, 16)).shape == (1, 2)
    torch.testing.assert_close(*outputs)


def test_another_image_size_is_refused():
    with pytest.raises(ValueError, match="128"):
        read_model("ram_tiny")(torch.zeros(1, 3, 64, 64))


# --- original checkpoints ----------------------------------------------------------------------


@BOTH
@pytest.mark.parametrize("masks", ["with", "without"])
def test_sizes_come_from_the_tensors(name: str, masks: str):
    config = read_config(name)
    state = load_file(golden_dir(name) / "checkpoint.safetensors")
    if masks == "without":
        state = {key: tensor for key, tensor in state.items() if "attn_mask" not in key}
    assert infer_ram_config(state, config.tags, config.thresholds) == config
    assert set(infer_ram_config(state, config.tags).thresholds) == {0.68}


def test_image_size_comes_from_the_masks_where_the_last_stage_has_more_windows():
    config = read_config("ram_tiny")
    state = load_file(golden_dir("ram_tiny") / "checkpoint.safetensors")
    for key in [key for key in state if key.endswith("attn_mask")]:
        state[key] = state[key].repeat(4, 1, 1)  # twice as many windows along each side
    assert infer_ram_config(state, config.tags).image_size == 256
    assert infer_ram_config(state, config.tags, image_size=384).image_size == 384


@pytest.mark.parametrize("name", ["ram_full_keys.json", "ram_plus_full_keys.json"])
def test_full_size_lists_are_covered(name: str):
    rows = json.loads(golden_dir(name).read_text())["keys"]
    state = {
        key: torch.empty(shape, dtype=getattr(torch, dtype), device="meta")
        for key, shape, dtype, _ in rows
    }
    tags = [f"tag {number}" for number in range(4585)]
    config = infer_ram_config(state, tags)
    descriptions = 51 if "plus" in name else 0
    assert config == RamConfig(
        tags=tuple(tags), thresholds=(0.68,) * 4585, descriptions_per_class=descriptions
    )
    converted = convert_ram_checkpoint(state, config, source=name)
    with torch.device("meta"):
        model = RecognizeAnything(config)
    assert {key: (t.shape, t.dtype) for key, t in converted.items()} == {
        key: (t.shape, t.dtype) for key, t in model.state_dict().items()
    }


@BOTH
def test_keys_that_differ_are_named_as_the_file_has_them(name: str):
    config = read_config(name)
    state = load_file(golden_dir(name) / "checkpoint.safetensors")
    unused = ("tag_encoder.", "text_decoder.")
    # the last weight matrix of each part, and an attention whose three matrices are one key
    for key in (
        "image_proj.weight",
        "label_embed",
        "tagging_head.encoder.layer.1.output.dense.weight",
        "visual_encoder.norm.weight",
        "visual_encoder.layers.2.downsample.reduction.weight",
        "visual_encoder.layers.3.blocks.1.attn.qkv.weight",
        "visual_encoder.layers.3.blocks.1.attn.relative_position_bias_table",
    ):
        assert key in state
        assert not key.startswith(unused)
        others = {other: tensor for other, tensor in state.items() if other != key}
        wrong = {
            "missing": others,
            "unexpected": {**others, key + "_old": state[key]},
            "instead of": {**others, key: state[key][:-1]},
        }
        for what, changed in wrong.items():
            with pytest.raises(UserError) as caught:
                convert_ram_checkpoint(changed, config, source="some.pth")
            message = str(caught.value)
            assert "some.pth" in message
            assert what in message
            assert (key + "_old" if what == "unexpected" else key) in message


def test_no_key_is_ignored_that_is_not_on_the_list():
    config = read_config("ram_tiny")
    state = load_file(golden_dir("ram_tiny") / "checkpoint.safetensors")
    for extra in ("fc2.weight", "visual_encoder.head.weight", "tagging_head.embeddings.weight"):
        with pytest.raises(UserError, match=extra):
            convert_ram_checkpoint({**state, extra: torch.zeros(1)}, config, source="x")


@pytest.fixture
def original(tmp_path):
    """A function that writes a golden checkpoint as the original project does, and its tags."""

    def write(name: str, **changes: Tensor):
        state = load_file(golden_dir(name) / "checkpoint.safetensors")
        path = tmp_path / f"{name}.pth"
        torch.save({"model": {**state, **changes}, "epoch": 3}, path)
        return path, read_config(name)

    return write


@BOTH
@torch.no_grad()
def test_original_file_to_directory_and_back(name: str, original, tmp_path):
    path, config = original(name)
    model = load_ram_checkpoint(path, config.tags, config.thresholds)
    expected = load_file(golden_dir(name) / "expected.safetensors")["logits"]
    torch.testing.assert_close(model(read_pixels(name)), expected, atol=1e-4, rtol=0)
    save_ram(model, tmp_path / "converted")
    saved = json.loads((tmp_path / "converted" / "config.json").read_text())
    assert saved["model_type"] == {"ram_tiny": "ram", "ram_plus_tiny": "ram-plus"}[name]
    path.unlink()
    tagger = load_ram(tmp_path / "converted")
    assert tagger.model.config == config
    logits = tagger.model(read_pixels(name))
    torch.testing.assert_close(logits, model(read_pixels(name)), atol=1e-5, rtol=0)
    loaded, original_state = tagger.model.state_dict(), model.state_dict()
    assert all(torch.equal(loaded[key], tensor) for key, tensor in original_state.items())


def test_wrong_original_files_are_told_apart(original, tmp_path):
    path, config = original("ram_plus_tiny")
    with pytest.raises(UserError, match=r"of ram-plus, not of ram"):
        load_ram_checkpoint(path, config.tags, model_type="ram")
    with pytest.raises(UserError, match=r"list of 24 tags; the one given has 23"):
        load_ram_checkpoint(path, config.tags[:-1])
    with pytest.raises(UserError, match=r"3 thresholds for 24 tags"):
        load_ram_checkpoint(path, config.tags, [0.5] * 3)
    with pytest.raises(UserError, match=r"0 thresholds for 24 tags"):
        load_ram_checkpoint(path, config.tags, [])
    other = tmp_path / "sam_vit_b.pth"
    torch.save({"image_encoder.pos_embed": torch.zeros(1)}, other)
    with pytest.raises(UserError, match=r"sam_vit_b.*visual_encoder.*image_encoder\.pos_embed"):
        load_ram_checkpoint(other, config.tags)


def test_directories_that_are_none_are_refused(tmp_path):
    model, directory = read_model("ram_tiny"), tmp_path / "model"
    with pytest.raises(UserError, match=r"config\.json"):
        load_ram(directory)
    save_ram(model, directory)
    content = json.loads((directory / "config.json").read_text())
    for changes, message in (
        ({"model_type": "sam"}, "'sam'"),
        ({"model_type": "ram-plus"}, "descriptions_per_class 0"),
        ({"colour": 1}, "colour"),
        ({"thresholds": [0.5]}, "1 thresholds for 50 tags"),
        ({"hidden_size": 66}, "hidden_size 66"),
        ({"intermediate_size": 64}, r"tagging_head\.0\.intermediate\.bias is \(128,\) instead of"),
    ):
        (directory / "config.json").write_text(json.dumps({**content, **changes}))
        with pytest.raises(UserError, match=message):
            load_ram(directory)
    (directory / "config.json").write_text("{")
    with pytest.raises(UserError, match="not JSON"):
        load_ram(directory)
    (directory / "config.json").write_text(json.dumps(content))
    (directory / "model.safetensors").unlink()
    with pytest.raises(UserError, match=r"model\.safetensors"):
        load_ram(directory)


def test_lists_are_read_line_by_line(tmp_path):
    tags, thresholds = tmp_path / "tags.txt", tmp_path / "thresholds.txt"
    tags.write_bytes("﻿traffic light \r\ncafé\r\n\r\n".encode())
    thresholds.write_text("0.68\n1.0\n")
    assert read_tags(tags) == ("traffic light", "café")
    assert read_thresholds(thresholds) == (0.68, 1.0)
    tags.write_text("cow\n\nsheep\n")
    with pytest.raises(UserError, match="line 2"):
        read_tags(tags)
    for wrong in ("0.5\nhalf\n", "0.5\n1.5\n", "0.5\nnan\n"):
        thresholds.write_text(wrong)
        with pytest.raises(UserError, match="line 2"):
            read_thresholds(thresholds)
    with pytest.raises(UserError, match=r"none\.txt"):
        read_tags(tmp_path / "none.txt")
    tags.write_bytes(b"\xff\xfe\x00")
    with pytest.raises(UserError, match="UTF-8"):
        read_tags(tags)


# --- images to tags ----------------------------------------------------------------------------


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
    pixels = preprocess([photo], read_config("ram_tiny"))[0]
    torch.testing.assert_close(pixels, tensors["ram_128_pipeline"], atol=1e-6, rtol=0)
    bilinear = preprocess([photo], replace(read_config("ram_tiny"), resize_filter="bilinear"))[0]
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


def test_a_tag_fires_strictly_above_its_threshold_unless_deleted():
    model, images = read_model("ram_tiny"), some_images()[:1]
    scores = RamTagger(model).score(images)[0]
    config = model.config
    equal = replace(config, thresholds=tuple(scores.tolist()))
    below = replace(config, thresholds=tuple(np.nextafter(scores, np.float32(0)).tolist()))
    deleted = replace(below, delete_tag_index=(0, 7))

    def names(config: RamConfig) -> list[str]:
        model.config = config
        return [tag.tag for tag in RamTagger(model).tag(images)[0]]

    assert names(equal) == []
    assert names(below) == list(config.tags)
    assert names(deleted) == [tag for i, tag in enumerate(config.tags) if i not in (0, 7)]


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
