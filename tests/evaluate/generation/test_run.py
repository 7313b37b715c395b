"""An evaluation with a model: kept answer by answer, continued, refused."""

from __future__ import annotations

import json
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest

from pad_pipeline.errors import UserError
from pad_pipeline.evaluate.evaluation import EvaluationReport, score_answers
from pad_pipeline.evaluate.generation import run
from pad_pipeline.evaluate.generation.config import GenerationConfig
from pad_pipeline.evaluate.generation.model import open_answerer
from pad_pipeline.evaluate.generation.run_model import RunAnswerer
from pad_pipeline.evaluate.questions.read import read_questions

CONFIG = GenerationConfig(device="cpu", batch_size=2, max_new_tokens=8)


def evaluate(
    scenes: Path, output: Path, config: GenerationConfig = CONFIG, **more: Any
) -> EvaluationReport:
    source = str(scenes / "questions.jsonl")
    questions, split = read_questions("vqa", source, benchmark="exact")
    model = str(scenes / more.pop("model", "stage2"))
    options = {"benchmark": "exact"}
    return run.evaluate_model(
        model, questions, str(output), "vqa", options, config, split=split, **more
    )


class Interrupted(Exception):
    """Stands for Ctrl-C."""


def test_a_run_that_was_interrupted_goes_on_where_it_stood(
    scenes: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    whole = evaluate(scenes, tmp_path / "whole")
    answered: list[int] = []

    def interrupt(done: int, total: int) -> None:
        assert total == 9
        if done >= 4:
            raise Interrupted

    with pytest.raises(Interrupted):
        evaluate(scenes, tmp_path / "out", progress=interrupt)
    assert len(list((tmp_path / "out/_batches").iterdir())) == 2
    assert not (tmp_path / "out/predictions.jsonl").exists()

    def counting(answerer: Any, questions: Any, batches: Any, tokens: int) -> Iterator[Any]:
        answered.extend(number for number, _ in batches)
        return real(answerer, questions, batches, tokens)

    real = run.answer_batches
    monkeypatch.setattr(run, "answer_batches", counting)
    evaluate(scenes, tmp_path / "out")
    assert answered == [2, 3, 4]
    assert not (tmp_path / "out/_batches").exists()
    for name in ("predictions.jsonl", "answers.jsonl", "summary.json"):
        assert (tmp_path / "out" / name).read_bytes() == (tmp_path / "whole" / name).read_bytes()
    summary = json.loads((tmp_path / "out/summary.json").read_text())
    assert summary["batch_size"] == 2
    assert summary["decoding"] == "greedy"
    assert summary["split"].endswith("questions.jsonl")
    assert summary["metrics"] == dict(whole.summary["metrics"])

    monkeypatch.setattr(run, "open_answerer", lambda *_: pytest.fail("it has answered all"))
    evaluate(scenes, tmp_path / "out")
    answers = str(tmp_path / "out/predictions.jsonl")
    with pytest.raises(UserError, match=r"holds the answers of .*stage2; use another output"):
        score_answers(answers, str(tmp_path / "out"), "vqa", {"benchmark": "exact"})
    with pytest.raises(UserError, match=r"holds another evaluation \(batch_size was 2 and is 3\)"):
        evaluate(scenes, tmp_path / "out", GenerationConfig(batch_size=3))


def test_no_question_is_answered_twice_or_lost_by_an_interruption(
    scenes: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    answered: list[str] = []
    real = RunAnswerer.answer

    def answer(self: RunAnswerer, prepared: Any, max_new_tokens: int) -> list[str]:
        if len(answered) == 4 and not (tmp_path / "interrupted").exists():
            (tmp_path / "interrupted").touch()
            raise Interrupted  # in the middle of the third batch
        texts = real(self, prepared, max_new_tokens)
        answered.extend(each.name for each in prepared)
        return texts

    monkeypatch.setattr(RunAnswerer, "answer", answer)
    with pytest.raises(Interrupted):
        evaluate(scenes, tmp_path / "out")
    assert len(answered) == 4
    evaluate(scenes, tmp_path / "out")
    rows = [
        json.loads(line) for line in (tmp_path / "out/predictions.jsonl").read_text().splitlines()
    ]
    names = [row["question_id"] for row in rows]
    assert sorted(answered) == sorted(names)
    assert len(set(names)) == len(names) == 9


def test_answers_stand_in_the_order_of_the_questions(scenes: Path, tmp_path: Path) -> None:
    evaluate(scenes, tmp_path / "out")
    rows = [
        json.loads(line) for line in (tmp_path / "out/predictions.jsonl").read_text().splitlines()
    ]
    assert [row["question_id"] for row in rows] == [*map(str, range(8)), "text"]
    questions = read_questions("vqa", str(scenes / "questions.jsonl"), benchmark="exact")[0]
    answerer = open_answerer(str(scenes / "stage2"), CONFIG)
    for row, question in zip(rows, questions, strict=True):
        assert row["prompt"] == question.text
        assert [row["answer"]] == answerer.answer([answerer.prepare(question)], 8)


def test_stage_1_answers_no_questions(scenes: Path, tmp_path: Path) -> None:
    with pytest.raises(UserError, match="stage 1, which captions images unasked"):
        evaluate(scenes, tmp_path / "out", model="stage1")
    assert not (tmp_path / "out").exists()


def test_a_prompt_without_the_question_is_refused(scenes: Path, tmp_path: Path) -> None:
    config = GenerationConfig(prompt="Answer!", device="cpu")
    with pytest.raises(UserError, match=r"prompt must hold \{question\}"):
        evaluate(scenes, tmp_path / "out", config)
