"""Fixtures of the tests of models."""

from __future__ import annotations

import json
from types import SimpleNamespace

import numpy as np
import pytest
from PIL import Image as PillowImage
from safetensors.torch import load_file

from pad_pipeline.models.sam.segmenter import SamSegmenter
from tests.golden_data import golden_dir
from tests.models.sam.helpers import from_folder


@pytest.fixture(scope="module")
def sam_golden() -> SimpleNamespace:
    folder = golden_dir("sam_tiny")
    cases = json.loads((folder / "expected.json").read_text())["cases"]
    inputs = load_file(folder / "inputs.safetensors")
    return SimpleNamespace(
        folder=folder,
        config=json.loads((folder / "config.json").read_text()),
        checkpoint=load_file(folder / "checkpoint.safetensors"),
        expected=load_file(folder / "expected.safetensors"),
        cases=cases,
        images=[np.asarray(PillowImage.open(folder / case["image"])) for case in cases.values()],
        boxes=[inputs[f"{name}.boxes"].numpy() for name in cases],
    )


@pytest.fixture(scope="module")
def sam_segmenter(sam_golden: SimpleNamespace) -> SamSegmenter:
    return from_folder(sam_golden)
