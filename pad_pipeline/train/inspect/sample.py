"""One sample of a source drawn as the model sees it."""

from __future__ import annotations

import tempfile
from pathlib import Path

import torch

from pad_pipeline import storage
from pad_pipeline.cognition.folder import is_conversations
from pad_pipeline.errors import UserError, plural
from pad_pipeline.review.choice import ReviewChoice
from pad_pipeline.train.constants import IGNORE_INDEX, IMAGE_TOKEN_INDEX
from pad_pipeline.train.data.examples import ExampleReader
from pad_pipeline.train.data.problems import DESCRIPTIONS
from pad_pipeline.train.data.sample_file import TrainingSamples, write_samples
from pad_pipeline.train.data.sample_sources import is_list
from pad_pipeline.train.inspect.picture import draw_sample
from pad_pipeline.train.regions import covered_tokens
from pad_pipeline.train.run.config import TrainConfig
from pad_pipeline.train.run.folder import check_review
from pad_pipeline.train.run.models import load_skeleton, locate, vision_input
from pad_pipeline.train.text.encode import load_tokenizer


def inspect_sample(
    source: str,
    images: str | None,
    config: TrainConfig,
    sample_id: str | None,
    output: str,
    review: ReviewChoice | None = None,
) -> str:
    """Write the PNG; returns a line on what it shows.

    Without an id the first sample with regions is taken, or the first one. `review` says which
    marks on a data set count. Raises `UserError` where the source has no such sample or it has no
    image.
    """
    source = storage.absolute(source)
    check_review(review, source, None)
    spoken = config.geometry != "crop" and is_list(source)
    stage = "finetune" if spoken or is_conversations(source) else "pretrain"
    with tempfile.TemporaryDirectory() as folder:
        path = Path(folder, "samples.arrow")
        _, left_out = write_samples(source, images, stage, path, review=review)
        left_out.report()
        samples = TrainingSamples(path)
        index = _find(samples, sample_id, source)
        model = load_skeleton(config)
        tokenizer = load_tokenizer(locate(config.llm, "language"))
        reader = ExampleReader(tokenizer, config, vision_input(model, config.vision))
        example = reader.read(samples[index])
    if example.frame is None:
        raise UserError(f"{example.id} is text alone; choose a sample with an image")
    tokens = [
        (
            "<image>" if token == IMAGE_TOKEN_INDEX else tokenizer.convert_ids_to_tokens(token),
            label != IGNORE_INDEX,
        )
        for token, label in zip(example.input_ids, example.labels, strict=True)
    ]
    draw_sample(example.frame, example.coverage_RS, example.tags, tokens, output)
    covered = int(covered_tokens(torch.tensor(example.coverage_RS)).any(-1).sum())
    num_supervised = sum(supervised for _, supervised in tokens)
    problem = f"; it is {DESCRIPTIONS[example.problem]}" if example.problem else ""
    return (
        f"wrote {output}: {example.id}, {plural(len(example.tags), 'region')} of which {covered} "
        f"cover a patch, {len(tokens)} tokens of which {num_supervised} are supervised{problem}"
    )


def _find(samples: TrainingSamples, sample_id: str | None, source: str) -> int:
    first = None
    for index in range(len(samples)):
        sample = samples[index]
        if sample_id is None:
            if sample.tags:
                return index
            if first is None and sample.image is not None:
                first = index
        elif sample.id == sample_id:
            return index
    if sample_id is not None:
        raise UserError(f"{source} has no sample {sample_id!r}")
    if first is None:
        raise UserError(f"{source} has no sample with an image")
    return first
