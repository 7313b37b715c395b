"""MobileSAM in its released layout, against the outputs of the original code."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from PIL import Image
from safetensors.torch import load_file, save_file
from torch import Tensor

from pad_pipeline.errors import UserError
from pad_pipeline.models.base import Runtime
from pad_pipeline.models.convert import convert
from pad_pipeline.models.registry import load_segmenter
from pad_pipeline.models.sam.load import load_sam
from pad_pipeline.models.sam.mobile_state_dict import to_mobile_sam
from pad_pipeline.models.sam.segmenter import SamSegmenter
from tests.golden_data import golden_dir
from tests.models.sam.helpers import bits
from tests.models.sam.mobile_weights import seeded_state

TOLERANCE = 1e-4


@pytest.fixture(scope="module")
def released() -> dict[str, Tensor]:
    return seeded_state()


@pytest.fixture(scope="module")
def checkpoint(released: dict[str, Tensor], tmp_path_factory: pytest.TempPathFactory) -> Path:
    path = tmp_path_factory.mktemp("mobile_sam") / "mobile_sam.pt"
    torch.save(released, path)
    return path


@pytest.fixture(scope="module")
def segmenter(checkpoint: Path) -> SamSegmenter:
    return load_sam(checkpoint, Runtime())


@pytest.fixture(scope="module")
def expected() -> dict[str, Tensor]:
    return load_file(golden_dir("mobile_sam") / "expected.safetensors")


@pytest.fixture(scope="module")
def image() -> np.ndarray:
    with Image.open(golden_dir("sam_tiny") / "landscape.png") as picture:
        return np.asarray(picture.convert("RGB"))


def test_embedding_and_masks_are_the_originals(
    segmenter: SamSegmenter, expected: dict[str, Tensor], image: np.ndarray
) -> None:
    (frame,), features = segmenter.embed([image])
    boxes = frame.to_frame(expected["boxes"].numpy(), np.float32)
    low_res, predicted_iou = segmenter.decode(features, np.zeros(len(boxes), np.int64), boxes)
    for found, wanted in (
        (features[0][:, :, ::8, ::8], expected["image_embedding_every_8th"]),
        (low_res[:, :, ::4, ::4], expected["low_res_masks_every_4th"]),
        (predicted_iou, expected["iou_predictions"]),
    ):
        assert found.shape == wanted.shape
        assert (found - wanted).abs().max() <= TOLERANCE * max(1, wanted.abs().max())


def test_a_converted_directory_and_folded_weights_give_the_same(
    released: dict[str, Tensor],
    checkpoint: Path,
    segmenter: SamSegmenter,
    expected: dict[str, Tensor],
    image: np.ndarray,
    tmp_path: Path,
) -> None:
    directory = convert("mobile-sam", checkpoint, tmp_path / "mobile_sam")
    save_file(fold(released), tmp_path / "folded.safetensors")
    boxes = [expected["boxes"].numpy()]
    (wanted,) = segmenter.segment([image], boxes)
    for place in (directory, tmp_path / "folded.safetensors"):
        (found,) = load_segmenter(place, Runtime()).segment([image], boxes)
        for ours, theirs in zip(found, wanted, strict=True):
            assert ours.predicted_iou == pytest.approx(theirs.predicted_iou, abs=TOLERANCE)
            assert np.mean(bits(ours) != bits(theirs)) < 1e-3


def fold(state: dict[str, Tensor]) -> dict[str, Tensor]:
    """The layout of an ONNX file's weights, by torch's own folding of batch norms."""
    from torch.nn.utils.fusion import fuse_conv_bn_weights

    folded = {k: v for k, v in state.items() if ".bn." not in k and "head." not in k}
    folded |= {k: v for k, v in state.items() if "mask_decoder" in k}
    for key in [key for key in folded if key.endswith(".c.weight")]:
        name = key.removesuffix(".c.weight")
        norm = {part: state[f"{name}.bn.{part}"] for part in ("running_mean", "running_var")}
        scale, shift = state[f"{name}.bn.weight"], state[f"{name}.bn.bias"]
        weight, bias = fuse_conv_bn_weights(
            folded.pop(key), None, norm["running_mean"], norm["running_var"], 1e-5, scale, shift
        )
        folded |= {f"{name}.weight": weight.detach(), f"{name}.bias": bias.detach()}
    for key in [key for key in folded if key.endswith("attention_biases")]:
        folded[key.replace("attention_biases", "ab")] = for_every_pair(folded.pop(key))
    return folded


def for_every_pair(table: Tensor) -> Tensor:
    side = round(table.shape[1] ** 0.5)
    places = [(row, column) for row in range(side) for column in range(side)]
    index = [[abs(a - c) * side + abs(b - d) for c, d in places] for a, b in places]
    return table[:, torch.tensor(index)].contiguous()


def test_a_bias_of_pairs_depends_on_the_distance_of_rows_and_of_columns() -> None:
    table = torch.arange(2 * 9, dtype=torch.float32).reshape(2, 9)
    name = "image_encoder.layers.1.blocks.0.attn"
    found = to_mobile_sam({f"{name}.attention_biases": table})
    (bias,) = found.values()
    assert torch.equal(bias, for_every_pair(table))


def dropped(key: str) -> Callable[[dict[str, Any]], None]:
    return lambda state: state.pop(key)


@pytest.mark.parametrize(
    ("change", "message"),
    [
        (dropped("image_encoder.layers.2.blocks.3.mlp.fc1.bias"), r"1 missing .*mlp\.1\.bias"),
        (
            lambda state: state.update({"extra.weight": torch.zeros(1)}),
            r"1 unexpected .*extra\.weight",
        ),
        (
            dropped("image_encoder.layers.0.blocks.1.conv2.bn.running_var"),
            r"missing .*stages\.0\.blocks\.1\.conv2\.weight.* unexpected",
        ),
        (
            lambda state: state.update({"mask_decoder.iou_token.weight": torch.zeros(1, 8)}),
            "has tensors of impossible shapes",
        ),
        (
            lambda state: state.update({"mask_decoder.mask_tokens.weight": torch.zeros(4, 8)}),
            "1 of another shape",
        ),
        (dropped("image_encoder.neck.0.weight"), r"neck\.0\.weight is missing"),
        (dropped("image_encoder.layers.1.blocks.0.attn.attention_biases"), "biases is missing"),
    ],
)
def test_a_file_that_is_no_whole_mobile_sam_is_refused_by_name(
    change: Callable[[dict[str, Any]], None],
    message: str,
    released: dict[str, Tensor],
    tmp_path: Path,
) -> None:
    state = dict(released)
    change(state)
    save_file(state, tmp_path / "changed.safetensors")
    with pytest.raises(UserError, match=message):
        load_sam(tmp_path / "changed.safetensors", Runtime())


def test_another_sam_is_not_converted_as_a_mobile_one(tmp_path: Path) -> None:
    with pytest.raises(UserError, match="does not fit MobileSAM"):
        convert("mobile-sam", golden_dir("sam_tiny") / "checkpoint.safetensors", tmp_path / "out")


def test_half_precision_stays_close(
    checkpoint: Path, expected: dict[str, Tensor], image: np.ndarray
) -> None:
    segmenter = load_sam(checkpoint, Runtime(dtype="bfloat16"))
    _, (embedding,) = segmenter.embed([image])
    assert embedding.dtype == torch.float32
    wanted = expected["image_embedding_every_8th"]
    difference = (embedding[:, :, ::8, ::8] - wanted).abs().mean()
    assert difference < 0.02 * wanted.abs().mean()
