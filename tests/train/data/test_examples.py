"""Samples as they are read: what becomes of texts that are too long or cannot be used."""

from __future__ import annotations

import logging
from dataclasses import replace
from pathlib import Path

import pytest
from PIL import Image

from pad_pipeline.sources import ManifestRow
from pad_pipeline.train.constants import IMAGE_TOKEN_INDEX
from pad_pipeline.train.data.examples import ExampleReader
from pad_pipeline.train.data.loader import Loader
from pad_pipeline.train.data.problems import DESCRIPTIONS, Problem, describe_counts, metrics_of
from pad_pipeline.train.data.samples import TrainingSample
from pad_pipeline.train.data.vision_input import VisionInput
from pad_pipeline.train.run.config import PRESETS
from pad_pipeline.train.run.models import locate
from pad_pipeline.train.text.encode import load_tokenizer

CONFIG = replace(PRESETS["finetune"]["demo"](), max_length=300, micro_batch=8)
LONG = "word " * 400


@pytest.fixture(scope="module")
def reader() -> ExampleReader:
    tokenizer = load_tokenizer(locate(CONFIG.llm, "language"))
    return ExampleReader(tokenizer, CONFIG, VisionInput(size=64, grid=8, num_tokens=64))


@pytest.fixture
def image(tmp_path: Path) -> ManifestRow:
    Image.new("RGB", (8, 8)).save(tmp_path / "a.png")
    return ManifestRow("a.png", str(tmp_path / "a.png"), None)


def talk(*values: str) -> list[dict[str, str]]:
    roles = ("user", "assistant")
    return [{"from": roles[n % 2], "value": value} for n, value in enumerate(values)]


CASES = [
    (talk("<image>\nWhat?", "A cat."), None, True),
    (talk("<image>\nWhat?", LONG), Problem.CUT, True),
    (talk(f"<image>\n{LONG}", "A cat."), Problem.ANSWER_CUT, True),
    (talk("Hello", LONG, "<image>\nWhat?", "A cat."), Problem.IMAGE_CUT, False),
    (talk("What?", "A cat."), Problem.NOT_SHOWN, False),
    (talk("<image>\nWhat?", ""), Problem.NO_ANSWER, True),
    (talk("<image>\nWhat?", "the tag <image>"), Problem.UNUSABLE_TEXT, False),
    ([*talk("<image>"), *talk("What?", "A cat.")], Problem.UNUSABLE_TEXT, False),
]


@pytest.mark.parametrize(("turns", "problem", "is_shown"), CASES)
def test_the_problem_of_a_sample_is_named(
    reader: ExampleReader,
    image: ManifestRow,
    turns: list[dict[str, str]],
    problem: Problem | None,
    is_shown: bool,
) -> None:
    example = reader.read(TrainingSample(id="a", image=image, turns=turns))
    assert example.problem == problem
    assert bool(example.reason) == (problem == Problem.UNUSABLE_TEXT)
    # an image without a place in the text, or a place without an image, would stop the model
    assert example.input_ids.count(IMAGE_TOKEN_INDEX) == (example.frame is not None) == is_shown


def test_a_batch_counts_problems_and_the_first_of_each_kind_is_logged(
    reader: ExampleReader, image: ManifestRow, caplog: pytest.LogCaptureFixture
) -> None:
    samples = [
        TrainingSample(id=f"s{number}", image=image, turns=turns)
        for number, (turns, _, _) in enumerate([*CASES, CASES[1]])
    ]
    loader = Loader(samples, reader.tokenizer, CONFIG, reader.image)  # type: ignore[arg-type]
    with caplog.at_level(logging.WARNING, "pad_pipeline"):
        first, second = loader.micro_batches(range(len(samples)))
    counts = first.problems + second.problems
    assert counts[Problem.CUT] == counts[Problem.UNUSABLE_TEXT] == 2
    assert counts.total() == 8
    assert not first.without_targets().problems
    assert len(caplog.records) == 6
    assert f"sample s1 is {DESCRIPTIONS[Problem.CUT]}" in caplog.messages
    assert any("s6" in each and "more than one <image>" in each for each in caplog.messages)


def test_counts_as_metrics_and_as_lines() -> None:
    counts = [
        2.0 if kind == Problem.CUT else 1.0 if kind == Problem.TAG else 0.0 for kind in Problem
    ]
    assert metrics_of(counts) == {"problem_samples": 3, "problems/cut": 2, "problems/tag": 1}
    assert metrics_of([0.0] * len(Problem)) == {"problem_samples": 0}
    lines = describe_counts({"tag": 1, "cut": 1200})
    assert lines == [
        f"1,200 samples {DESCRIPTIONS[Problem.CUT]}",
        f"1 sample {DESCRIPTIONS[Problem.TAG]}",
    ]
    assert set(DESCRIPTIONS) == set(Problem)
