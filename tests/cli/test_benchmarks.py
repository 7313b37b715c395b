"""The commands `evaluate …` on a run, on answers, and on what they refuse."""

from __future__ import annotations

import json
from pathlib import Path

import pytest

from tests.cli.runner import call


@pytest.fixture(scope="module")
def questions(scenes: Path) -> Path:
    path = scenes / "boxes.jsonl"
    rows = [
        {"question_id": n, "image": f"images/{n:04d}.png", "question": "it", "bbox": [1, 1, 9, 9]}
        for n in range(3)
    ]
    path.write_text("".join(json.dumps(row) + "\n" for row in rows))
    return path


def answered(path: Path, *texts: str, **entry: object) -> Path:
    rows = [
        {"question_id": n, "answer": text, "references": ["yes"], **entry}
        for n, text in enumerate(texts)
    ]
    path.write_text("".join(json.dumps(row) + "\n" for row in rows))
    return path


def test_answers_are_scored_and_compared(capfd, tmp_path: Path) -> None:
    right = answered(tmp_path / "right.jsonl", "Yes.", "yes", "no")
    wrong = answered(tmp_path / "wrong.jsonl", "no", "yes", "no")
    options = ("evaluate", "vqa", "--benchmark", "gqa")
    done = call(capfd, *options, "--answers", wrong, "--output", tmp_path / "wrong")
    assert done.code == 0, done.err
    done = call(
        capfd,
        *(*options, "--answers", right, "--output", tmp_path / "right"),
        *("--against", tmp_path / "wrong"),
    )
    assert done.code == 0, done.err
    assert "3 answers" in done.out
    assert "better on 1 questions, worse on 0, equal on 2" in done.out
    again = call(capfd, "evaluate", "score", tmp_path / "right", "--against", tmp_path / "wrong")
    assert again.out == done.out
    summary = json.loads((tmp_path / "right/summary.json").read_text())
    assert summary["metrics"]["accuracy"] == pytest.approx(2 / 3)
    assert summary["benchmark"] == "gqa"


def test_answers_that_are_no_boxes_are_counted_and_shown(capfd, tmp_path: Path) -> None:
    size = {"width": 9, "height": 9, "references": [0, 0, 9, 9]}
    path = answered(tmp_path / "a.jsonl", "on the left", "[0, 0, 1, 1]", **size)
    done = call(capfd, "evaluate", "referring", "--answers", path, "--output", tmp_path / "out")
    assert done.code == 0, done.err
    assert "1 answer cannot be read" in done.out
    assert "'on the left'" in done.out


def test_stage_1_says_what_is_needed_instead(
    capfd, scenes: Path, trained_run: Path, questions: Path, tmp_path: Path
) -> None:
    done = call(
        capfd,
        *("evaluate", "referring", trained_run, "--questions", questions),
        *("--output", tmp_path / "out"),
    )
    assert "questions are for a run of `train finetune`" in done.sentence


@pytest.mark.parametrize(
    ("words", "message"),
    [
        ("captions --output OUT", "expected a model and --questions to put to it, or --answers"),
        ("captions RUN --output OUT", "expected a model and --questions"),
        ("captions RUN --answers x.jsonl --output OUT", "leave out the model and its questions"),
        ("captions RUN --questions gone.json --output OUT", "no questions at"),
        ("referring RUN --questions BOXES --images gone --output OUT", "no such folder or .zip"),
        ("referring RUN --questions BOXES --split val --output OUT", "leave out --split val"),
        ("vqa --benchmark gqa --answers gone.jsonl --output OUT", "gone.jsonl"),
        ("captions RUN --questions BOXES --batch-size 0 --output OUT", "--batch-size must be at"),
        ("score OUT", "is not an evaluation"),
    ],
)
def test_one_sentence_says_what_is_wrong(
    capfd, trained_run: Path, questions: Path, tmp_path: Path, words: str, message: str
) -> None:
    places = {"OUT": tmp_path / "out", "RUN": trained_run, "BOXES": questions}
    done = call(capfd, "evaluate", *(places.get(word, word) for word in words.split()))
    assert message in done.sentence
