"""How answers are generated, and what a model must do for that."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any, Literal, Protocol

from pad_pipeline.evaluate.questions.question import Question
from pad_pipeline.limits import AtLeastOne, check_limits
from pad_pipeline.train.choices import Template


@dataclass(frozen=True, kw_only=True)
class GenerationConfig:
    """How answers are generated: greedily, so the same model gives the same ones."""

    batch_size: AtLeastOne = 8
    """Questions that pass through the model together."""
    max_new_tokens: AtLeastOne | None = None
    """Longest answer in tokens; the kind of the questions decides without it."""
    prompt: str | None = None
    """What is asked, with {question} in the place of the question; by default as lmms-eval does."""
    template: Template | None = None
    """How conversations are written, for a model that does not say it itself."""
    device: Literal["auto", "cpu", "cuda"] = "auto"
    """Where the model runs; `auto` takes the GPU where there is one."""
    engine: Literal["transformers", "vllm"] = "transformers"
    """What runs an export or another model of transformers; vLLM is installed apart."""
    dtype: Literal["auto", "float32", "bfloat16"] = "auto"
    """Data type of weights and passes; `auto` is bfloat16 on a GPU and float32 on a CPU."""

    def __post_init__(self) -> None:
        """Refuse values that cannot work."""
        check_limits(self)


class Answerer(Protocol):
    """A model that answers questions about images."""

    def prepare(self, question: Question) -> Any:
        """The question's image and prompt, ready to be batched; may run in another thread."""
        ...

    def answer(self, prepared: Sequence[Any], max_new_tokens: int) -> list[str]:
        """The greedy answers, in order."""
        ...
