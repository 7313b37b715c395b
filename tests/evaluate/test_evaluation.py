"""Answers scored without a model: the evaluation's folder, repeated scoring, comparisons."""

from __future__ import annotations

import json
from pathlib import Path

import pytest

from pad_pipeline.errors import UserError
from pad_pipeline.evaluate.answers import read_answers
from pad_pipeline.evaluate.evaluation import score_again, score_answers
from tests.evaluate.scoring.java import needs_java

TRUTH = {"1": ["a red car on a road"], "2": ["two dogs run on a beach"], "three": ["a house"]}


def write(path: Path, answers: dict[str, str], **more: object) -> str:
    rows = [
        {"question_id": name, "answer": text, "references": TRUTH.get(name, ["x"]), **more}
        for name, text in answers.items()
    ]
    path.write_text("".join(json.dumps(row) + "\n" for row in rows))
    return str(path)


@needs_java
def test_two_evaluations_are_compared_question_by_question(tmp_path: Path) -> None:
    right = write(tmp_path / "a.jsonl", {name: texts[0] for name, texts in TRUTH.items()})
    wrong = write(tmp_path / "b.jsonl", {"three": "a house", "1": "a blue bus", "2": ""})
    score_answers(wrong, str(tmp_path / "b"), "captions", {})
    report = score_answers(right, str(tmp_path / "a"), "captions", {}, against=str(tmp_path / "b"))
    found = json.loads((tmp_path / "a/comparison.json").read_text())
    assert (found["num_wins"], found["num_losses"], found["num_ties"]) == (2, 0, 1)
    assert {row["question_id"]: row["answer_against"] for row in found["wins"]} == {
        "1": "a blue bus",
        "2": "",
    }
    difference = found["metrics"]["ROUGE_L"]
    assert difference["difference"] == pytest.approx(1 - difference["against"])
    low, high = difference["interval"]
    assert 0 <= low <= difference["difference"] <= high
    assert any("better on 2 questions, worse on 0, equal on 1" in line for line in report.lines())

    rows = [json.loads(line) for line in (tmp_path / "a/answers.jsonl").read_text().splitlines()]
    assert [row["question_id"] for row in rows] == list(TRUTH)
    assert all(row["score"] == row["scores"]["METEOR"] == 1.0 for row in rows)
    summary = (tmp_path / "a/summary.json").read_bytes()
    assert json.loads(summary)["metrics"]["ROUGE_L"] == 1.0
    (tmp_path / "a/summary.json").unlink()
    score_again(str(tmp_path / "a"))
    assert (tmp_path / "a/summary.json").read_bytes() == summary


@needs_java
def test_runs_on_different_samples_are_not_compared(tmp_path: Path) -> None:
    first = write(tmp_path / "a.jsonl", {"1": "a car", "2": "dogs"})
    score_answers(first, str(tmp_path / "a"), "captions", {})
    other = write(tmp_path / "b.jsonl", {"1": "a car", "three": "a house"})
    with pytest.raises(UserError, match=r"answer different questions \(2 are in one .* same samp"):
        score_answers(other, str(tmp_path / "b"), "captions", {}, against=str(tmp_path / "a"))
    assert not (tmp_path / "b/summary.json").exists()
    truth = write(tmp_path / "c.jsonl", {"1": "a car", "2": "dogs"})
    text = Path(truth).read_text().replace("a red car on a road", "a lorry")
    Path(truth).write_text(text)
    with pytest.raises(UserError, match="other references for question 1"):
        score_answers(truth, str(tmp_path / "c"), "captions", {}, against=str(tmp_path / "a"))


@pytest.mark.parametrize(
    ("line", "message"),
    [
        ("5", "entry 1 of .* is '5'; expected an object"),
        ('{"answer": "a"}', "question_id 'None'; expected a text or number"),
        ('{"question_id": 1}', "has the answer 'None'; expected a text, which may be empty"),
        ('{"question_id": 1, "answer": null}', "expected a text, which may be empty"),
        ('{"question_id": 1, "answer": "a"}\n{"question_id": "1", "text": "b"}', "1 twice"),
        ("", "holds no answers"),
        ("{", "damaged at line 1"),
    ],
)
def test_answers_that_cannot_be_read_are_named(tmp_path: Path, line: str, message: str) -> None:
    path = tmp_path / "answers.jsonl"
    path.write_text(line)
    with pytest.raises(UserError, match=message):
        read_answers(str(path))


@pytest.mark.parametrize(
    ("references", "message"),
    [
        (None, "question 7 of .* has no 'references': expected a text or a list of texts"),
        ([], r"has 'references' '\[\]'; expected a text or a list of texts"),
        ([{"caption": "a"}], "expected a text or a list of texts"),
    ],
)
def test_references_that_are_none_are_named(tmp_path: Path, references, message: str) -> None:
    path = tmp_path / "answers.jsonl"
    row = {"question_id": 7, "answer": "a", "references": references}
    path.write_text(json.dumps(row))
    with pytest.raises(UserError, match=message):
        score_answers(str(path), str(tmp_path / "out"), "captions", {})


def test_a_folder_without_an_evaluation_is_named(tmp_path: Path) -> None:
    with pytest.raises(UserError, match=r"is not an evaluation: it has no evaluation\.json"):
        score_again(str(tmp_path))
    (tmp_path / "evaluation.json").write_text("{}")
    with pytest.raises(UserError, match=r"cannot be read .*; evaluate again"):
        score_again(str(tmp_path))
