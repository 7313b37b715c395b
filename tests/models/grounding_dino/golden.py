"""A golden folder of Grounding DINO, read once, and the detector made of it."""

from __future__ import annotations

import json

from safetensors.torch import load_file
from transformers import GroundingDinoForObjectDetection

from pad_pipeline.models.base import Runtime
from pad_pipeline.models.grounding_dino.detector import GroundingDinoDetector
from pad_pipeline.models.grounding_dino.load import build_grounding_dino, load_tokenizer
from pad_pipeline.models.grounding_dino.preprocessing import Preprocessing
from pad_pipeline.models.grounding_dino.state_dict import config_from_golden
from tests.golden_data import golden_dir

TOLERANCE = 1e-4
SMALL = Preprocessing(112, 187)


class Golden:
    """A golden folder, read once."""

    def __init__(self, name: str) -> None:
        folder = golden_dir(name)
        self.vocabulary = folder / "vocab.txt"
        self.checkpoint = folder / "checkpoint.safetensors"
        self.state = load_file(self.checkpoint)
        self.config = json.loads((folder / "config.json").read_text())
        self.inputs = load_file(folder / "inputs.safetensors")
        self.expected = json.loads((folder / "expected.json").read_text())
        self.tensors = load_file(folder / "expected.safetensors")
        self.tokenizer = load_tokenizer(self.vocabulary)
        self.mixed_cases = [
            name for name, case in self.expected["cases"].items() if len(set(case["captions"])) > 1
        ]
        """Cases for which the original hands captions' masks to the wrong heads; what it should
        have computed stands under the name with `_own_masks`."""

    def model(self) -> GroundingDinoForObjectDetection:
        return build_grounding_dino(
            self.state, source="golden", config=config_from_golden(self.config)
        )

    def detector(self, **options) -> GroundingDinoDetector:
        options = {"preprocessing": SMALL, "box_threshold": 0.15} | options
        return GroundingDinoDetector(self.model(), self.tokenizer, Runtime(), **options)
