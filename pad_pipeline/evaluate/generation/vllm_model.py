"""An export, or another LLaVA of transformers, answered by vLLM, which is installed apart.

Source: vLLM's documentation, "Multimodal Inputs" and `LLM.generate`.
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

from PIL import Image
from transformers import AutoProcessor

from pad_pipeline.errors import Setting, UserError, short_line
from pad_pipeline.evaluate.generation.chat import ChatPrompts
from pad_pipeline.evaluate.generation.config import GenerationConfig
from pad_pipeline.evaluate.questions.question import Question, read_image
from pad_pipeline.models.pretrained import quiet


class VllmAnswerer:
    """Answers with `vllm.LLM`, which batches by itself what it is given together."""

    def __init__(self, reference: str, config: GenerationConfig) -> None:
        try:
            import vllm  # pyright: ignore[reportMissingImports]
        except ImportError as error:
            raise UserError(
                f"the engine needs vLLM ({error}): pip install vllm, or leave out ",
                Setting("engine", "vllm"),
            ) from error
        if config.device != "auto":
            raise UserError(
                "vLLM runs where it was built for; leave out ", Setting("device", config.device)
            )
        self._sampling: Any = vllm.SamplingParams
        try:
            with quiet():
                processor: Any = AutoProcessor.from_pretrained(reference)
                self._prompts = ChatPrompts(processor, config.template, reference)
                self._llm: Any = vllm.LLM(
                    model=reference, dtype=config.dtype, limit_mm_per_prompt={"image": 1}
                )
        except (OSError, ValueError, KeyError) as error:
            raise UserError(
                f"{reference} cannot be loaded by vLLM ({short_line(error)}); try the engine "
                "transformers"
            ) from error

    def prepare(self, question: Question) -> dict[str, Any]:
        """The prompt by the model's chat template and the image, as vLLM takes them."""
        has_image = question.image is not None
        prepared: dict[str, Any] = {
            "prompt": self._prompts.write(question.text, has_image=has_image)
        }
        if has_image:
            prepared["multi_modal_data"] = {"image": Image.fromarray(read_image(question))}
        return prepared

    def answer(self, prepared: Sequence[dict[str, Any]], max_new_tokens: int) -> list[str]:
        """The greedy answers, in order."""
        sampling = self._sampling(temperature=0.0, max_tokens=max_new_tokens)
        outputs = self._llm.generate(list(prepared), sampling_params=sampling, use_tqdm=False)
        return [output.outputs[0].text.strip() for output in outputs]
