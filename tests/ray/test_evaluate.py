"""Answers by two models at once."""

from __future__ import annotations

import dataclasses
import json
from pathlib import Path

import pytest

from pad_pipeline.errors import UserError
from pad_pipeline.evaluate.generation.config import GenerationConfig
from pad_pipeline.evaluate.generation.loop import answer_batches, make_batches
from pad_pipeline.evaluate.generation.model import open_answerer
from pad_pipeline.evaluate.generation.on_ray import answer_on_ray
from pad_pipeline.evaluate.questions.read import read_questions
from pad_pipeline.train.distributed import OneWorker
from pad_pipeline.train.loop import train
from pad_pipeline.train.run.folder import open_run
from tests.train.scenes import write_annotations
from tests.train.test_loop import PRETRAIN

pytestmark = pytest.mark.ray

CONFIG = GenerationConfig(device="cpu", batch_size=2)


@pytest.mark.usefixtures("local_ray")
def test_workers_give_the_answers_of_one_model_and_their_errors(tmp_path: Path) -> None:
    annotations = str(write_annotations(tmp_path, 6))
    config = dataclasses.replace(PRETRAIN, max_steps=1, num_validation=0)
    train(
        open_run(str(tmp_path / "run"), "pretrain", config, annotations, None, None),
        config,
        OneWorker(),
    )
    rows = [{"image": f"images/{n:04d}.png", "references": ["x"]} for n in range(5)]
    source = tmp_path / "questions.jsonl"
    source.write_text("".join(json.dumps(row) + "\n" for row in rows))
    questions, _ = read_questions("captions", str(source))
    batches = [*enumerate(make_batches(questions, 2))]
    model = str(tmp_path / "run")
    expected = dict(answer_batches(open_answerer(model, CONFIG), questions, batches, 8))
    # that of the last batch, which is begun when another has ended
    (tmp_path / "images/0004.png").unlink()
    coming = answer_on_ray(model, CONFIG, questions, batches, 8, workers=2)
    found = dict([next(coming)])
    with pytest.raises(UserError, match="the image of question 5 cannot be read"):
        found.update(coming)
    assert found
    assert found == {number: expected[number] for number in found}
    assert 2 not in found
