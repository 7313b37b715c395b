"""An evaluation with a model: questions read, answered, kept and scored."""

from __future__ import annotations

import hashlib
import json
from collections.abc import Callable, Iterator, Sequence
from typing import Any

from pad_pipeline import storage
from pad_pipeline.errors import UserError
from pad_pipeline.evaluate.choices import Kind
from pad_pipeline.evaluate.evaluation import (
    PREDICTIONS,
    Evaluation,
    EvaluationReport,
    begin,
    finish,
    read_predictions,
    resumable,
    write_lines,
)
from pad_pipeline.evaluate.generation.config import GenerationConfig
from pad_pipeline.evaluate.generation.loop import (
    Progress,
    answer_batches,
    collect_answers,
    discard_batches,
    with_prompt,
)
from pad_pipeline.evaluate.generation.model import is_captioner, open_answerer
from pad_pipeline.evaluate.generation.prompts import (
    check_prompt,
    default_max_new_tokens,
    default_prompt,
)
from pad_pipeline.evaluate.questions.question import Question
from pad_pipeline.sources import ManifestRow

Batches = Sequence[tuple[int, list[int]]]
AnswerOnRay = Callable[[str, GenerationConfig, Sequence[Question], Batches, int], Iterator[Any]]


def evaluate_model(
    model: str,
    questions: Sequence[Question],
    output: str,
    kind: Kind,
    options: dict[str, Any],
    config: GenerationConfig,
    *,
    split: str | None,
    against: str | None = None,
    progress: Progress | None = None,
    answer_on_ray: AnswerOnRay | None = None,
) -> EvaluationReport:
    """Put the questions to the model at `model`, keep its answers at `output` and score them.

    Answers that are there already from an earlier call with the same arguments are not asked for
    again. Raises `UserError` where `output` holds another evaluation, an image is missing or the
    model cannot be used.
    """
    prompt = _prompt(model, kind, options, config)
    tokens = config.max_new_tokens or default_max_new_tokens(kind)
    asked = [with_prompt(question, prompt) for question in questions]
    provenance = {
        "model": storage.absolute(model) if storage.exists(model) else model,
        "questions": _digest(asked),
        "split": split,
        "prompt": prompt,
        "template": config.template,
        "batch_size": config.batch_size,
        "max_new_tokens": tokens,
        "decoding": "greedy",
        "device": config.device,
        "dtype": config.dtype,
        **({"engine": config.engine} if config.engine != "transformers" else {}),
    }
    evaluation = Evaluation(storage.absolute(output), kind, options, provenance)
    if not resumable(evaluation):
        begin(evaluation)
    place = storage.join(evaluation.url, PREDICTIONS)
    if not storage.exists(place):
        # opened only where something is left to be answered
        def run(batches: Batches) -> Iterator[tuple[int, list[str]]]:
            if answer_on_ray is not None:
                return answer_on_ray(model, config, asked, batches, tokens)
            return answer_batches(open_answerer(model, config), asked, batches, tokens)

        texts = collect_answers(evaluation.url, asked, config.batch_size, run, progress)
        rows = [
            {"question_id": q.question_id, "prompt": q.text, "answer": text}
            | _image_of(q)
            | q.entry
            for q, text in zip(asked, texts, strict=True)
        ]
        write_lines(place, rows)
        discard_batches(evaluation.url)
    return finish(evaluation, read_predictions(evaluation), against)


def _image_of(question: Question) -> dict[str, Any]:
    """The image's name, for whoever reads the answers."""
    image = question.image
    return {"image": image.image_id} if isinstance(image, ManifestRow) else {}


def _prompt(model: str, kind: Kind, options: dict[str, Any], config: GenerationConfig) -> str:
    if is_captioner(model):
        if kind != "captions" or config.prompt is not None:
            raise UserError(
                f"{model} is a run of stage 1, which captions images unasked; questions "
                "are for a run of `train finetune`"
            )
        return ""
    prompt = default_prompt(kind, options.get("benchmark"))
    if config.prompt is not None:
        prompt = config.prompt
    check_prompt(prompt, kind)
    return prompt


def _digest(questions: Sequence[Question]) -> str:
    content = [[q.question_id, q.text, str(q.image)[:4096], q.entry] for q in questions]
    return hashlib.sha256(json.dumps(content).encode()).hexdigest()[:16]
