"""The engine vLLM, tried on a stand-in with the interface that its documentation shows."""

from __future__ import annotations

import sys
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from types import ModuleType, SimpleNamespace
from typing import Any

import numpy as np
import pytest
from PIL import Image

from pad_pipeline.errors import UserError
from pad_pipeline.evaluate.generation.config import GenerationConfig
from pad_pipeline.evaluate.generation.loop import answer_batches, make_batches
from pad_pipeline.evaluate.generation.model import open_answerer
from pad_pipeline.evaluate.generation.transformers_model import Prepared, TransformersAnswerer
from tests.evaluate.generation.test_answers import CPU, questions_of

VLLM = GenerationConfig(engine="vllm", dtype="float32")


@dataclass
class SamplingParams:
    """vLLM's, as far as it is used."""

    temperature: float = 1.0
    max_tokens: int = 16


class LLM:
    """vLLM's, as far as it is used; answers by transformers, finished or not in any order."""

    def __init__(self, model: str, *, dtype: str, limit_mm_per_prompt: dict[str, int]) -> None:
        assert limit_mm_per_prompt == {"image": 1}
        self.answerer = TransformersAnswerer(model, GenerationConfig(device="cpu", dtype="float32"))

    def generate(
        self,
        prompts: Sequence[dict[str, Any]],
        sampling_params: SamplingParams,
        *,
        use_tqdm: bool = True,
    ) -> list[Any]:
        assert sampling_params.temperature == 0, "not greedy"
        found = []
        for prompt in prompts:
            image = prompt.get("multi_modal_data", {}).get("image")
            assert image is None or isinstance(image, Image.Image)
            prepared = Prepared(prompt["prompt"], None if image is None else np.asarray(image))
            [text] = self.answerer.answer([prepared], sampling_params.max_tokens)
            found.append(SimpleNamespace(outputs=[SimpleNamespace(text=f" {text}")]))
        return found


def answers(scenes: Path, config: GenerationConfig) -> dict[int, list[str]]:
    questions = questions_of(scenes)
    batches = [*enumerate(make_batches(questions, 4))]
    answerer = open_answerer(str(scenes / "export"), config)
    return dict(answer_batches(answerer, questions, batches, 12))


def test_an_export_gives_the_same_answers(scenes: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    module = ModuleType("vllm")
    module.LLM, module.SamplingParams = LLM, SamplingParams  # type: ignore[attr-defined]
    monkeypatch.setitem(sys.modules, "vllm", module)
    assert answers(scenes, VLLM) == answers(scenes, CPU)
    with pytest.raises(UserError, match=r"is a run of training.*`train export` for engine='vllm'"):
        open_answerer(str(scenes / "stage2"), VLLM)
    with pytest.raises(UserError, match=r"runs where it was built for; leave out device='cpu'"):
        open_answerer(str(scenes / "export"), GenerationConfig(engine="vllm", device="cpu"))


def test_where_it_is_not_installed_the_message_says_so(
    scenes: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setitem(sys.modules, "vllm", None)
    with pytest.raises(UserError, match=r"pip install vllm, or leave out engine='vllm'"):
        open_answerer(str(scenes / "export"), VLLM)
