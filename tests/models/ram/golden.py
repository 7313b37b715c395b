"""The golden folders of RAM and RAM++ as models and inputs, and images to tag."""

from __future__ import annotations

import json

import numpy as np
import pytest
from safetensors.torch import load_file
from torch import Tensor

from pad_pipeline.models.ram.config import RamConfig, config_from_golden
from pad_pipeline.models.ram.network import RecognizeAnything
from pad_pipeline.models.ram.state_dict import (
    build_ram,
    convert_ram_checkpoint,
)
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
