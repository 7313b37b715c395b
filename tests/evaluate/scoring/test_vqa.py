"""Answers to questions, by tables worked out by hand and by what lmms-eval's functions give."""

from __future__ import annotations

import json
from typing import get_args

import numpy as np
import pytest

from pad_pipeline.errors import UserError
from pad_pipeline.evaluate.choices import Benchmark
from pad_pipeline.evaluate.scoring.answer_text import evalai_normalise, ten_annotators
from pad_pipeline.evaluate.scoring.scores import Scores
from pad_pipeline.evaluate.scoring.vqa import _SCORERS, score_vqa
from pad_pipeline.evaluate.scoring.yes_no import read_mme, read_pope
from tests.evaluate.scoring.answers import answer
from tests.golden_data import golden_dir

GOLDEN = json.loads((golden_dir("eval") / "vqa.json").read_text(encoding="utf-8"))


def values(scores: Scores) -> dict[str, float]:
    return {name: metric.value for name, metric in scores.metrics.items()}


def test_every_benchmark_has_a_rule() -> None:
    assert set(_SCORERS) == set(get_args(Benchmark))


@pytest.mark.parametrize(("text", "expected"), GOLDEN["normalise"].items())
def test_answers_are_normalised_as_by_lmms_eval(text: str, expected: str) -> None:
    assert evalai_normalise(text) == expected


@pytest.mark.parametrize(
    ("text", "expected"),
    [
        ("couldnt've", "couldn't've"),
        ("couldn'tve", "couldn't've"),
        ("couldntve", "couldntve"),  # not in the public table
        ("im", "im"),  # in capitals there
        ("somebody'd", "somebodyd"),  # the wrong way round there
        ("dont", "don't"),
        ("yall'll y'allll", "y'all'll y'all'll"),
        ("red/blue", "red blue"),
        ("red / blue", "red blue"),
        ("(red)blue (or so)", "red blue or so"),
        ("a.m. and p.m.", "am and pm"),
        ("1.5.", "1.5"),
    ],
)
def test_the_table_of_normalisation(text: str, expected: str) -> None:
    assert evalai_normalise(text) == expected


@pytest.mark.parametrize("case", GOLDEN["vqa_accuracy"])
@pytest.mark.parametrize("benchmark", ["vizwiz", "ok-vqa", "textvqa"])
def test_ten_annotators_give_lmms_evals_accuracy(case, benchmark: Benchmark) -> None:
    found = score_vqa([answer(1, case["prediction"], references=case["answers"])], benchmark)
    assert values(found) == {"accuracy": pytest.approx(case["accuracy"], abs=1e-12)}


def test_the_formula_leaves_each_annotator_out_in_turn() -> None:
    # 3 of 10 say "red": for those three 2 others match (2/3), for the seven 3 (1)
    assert ten_annotators("Red.", ["red"] * 3 + ["blue"] * 7) == pytest.approx(
        (3 * 2 / 3 + 7 * 1) / 10
    )


@pytest.mark.parametrize(
    ("text", "truth", "official", "harness"),
    [
        ("Yes.", "yes", 1, 1),
        ("yes..", "yes", 1, 1),
        ("Yes!", "yes", 0, 1),
        ("t-shirt", "t shirt", 0, 0),
        ("T-shirt", "t-shirt", 1, 1),
        ("", "yes", 0, 0),
        ("the left", "left", 0, 0),
    ],
)
def test_gqa(text: str, truth: str, official: float, harness: float) -> None:
    found = values(score_vqa([answer(1, text, references=truth)], "gqa"))
    assert found == {"accuracy": official, "accuracy_lmms_eval": harness}


@pytest.mark.parametrize("case", GOLDEN["scienceqa"], ids=lambda case: repr(case["prediction"]))
def test_scienceqa_as_by_lmms_eval(case) -> None:
    truth = "ABCDE"[case["answer"]]
    row = answer(1, case["prediction"], references=truth, choices=["x", "y", "z"])
    assert values(score_vqa([row], "scienceqa"))["accuracy_lmms_eval"] == case["exact_match"]


def test_scienceqa_by_llavas_rule_and_with_images() -> None:
    table = [
        ("B", True, 1),
        ("B. y", True, 1),
        ("The answer is B.", False, 1),
        ("The answer is B. The answer is C.", False, 0),
        ("b", True, 0),
        ("B.", False, 0),
        ("E", False, 0),
    ]
    rows = [
        answer(n, text, references=["B"], choices=["x", "y", "z"], image="i.png" if image else None)
        for n, (text, image, _) in enumerate(table)
    ]
    scores = score_vqa(rows, "scienceqa")
    assert scores.per_sample["accuracy"].tolist() == [right for *_, right in table]
    assert values(scores)["accuracy"] == pytest.approx(3 / 7)
    assert values(scores)["accuracy_img"] == pytest.approx(2 / 3)
    assert scores.unread == (3, 4, 5, 6)


@pytest.mark.parametrize(
    ("text", "is_yes"),
    [
        ("Yes", True),
        ("No", False),
        ("no, there is none", False),
        ("There is not a dog. Yes.", False),
        ("Yes. No dog though.", True),
        ("None", True),  # whole words alone
        ("NO", True),  # the rule knows "No" and "no"
        ("No!", True),
        ("No,", False),
        ("", True),
    ],
)
def test_popes_rule(text: str, is_yes: bool) -> None:
    assert read_pope(text) is is_yes


def test_popes_figures() -> None:
    rows = [
        answer(1, "Yes", references="yes", category="random"),
        answer(2, "Yes", references="no", category="random"),
        answer(3, "No", references="yes", category="popular"),
        answer(4, "Yes", references="yes", category="popular"),
        answer(5, "No", references="no", category="popular"),
    ]
    found = values(score_vqa(rows, "pope"))
    assert found["accuracy"] == 3 / 5
    assert (found["precision"], found["recall"]) == (pytest.approx(2 / 3), pytest.approx(2 / 3))
    assert found["f1"] == pytest.approx(2 / 3)
    assert found["yes_share"] == 3 / 5
    assert found["f1/random"] == pytest.approx(2 / 3)  # precision 1/2, recall 1
    assert found["f1/popular"] == pytest.approx(2 / 3)  # precision 1, recall 1/2
    assert found["f1_mean"] == pytest.approx(2 / 3)
    with pytest.raises(UserError, match="'maybe'; expected yes or no"):
        score_vqa([answer(1, "Yes", references="maybe")], "pope")


@pytest.mark.parametrize(("text", "expected"), GOLDEN["mme_parse"].items())
def test_mmes_rule_is_that_of_lmms_eval(text: str, expected: str) -> None:
    assert read_mme(text) is {"yes": True, "no": False, "other": None}[expected]


def test_mmes_score_is_that_of_lmms_eval() -> None:
    rows = [
        answer(
            n,
            "Yes" if row["score"] else "perhaps",
            references="Yes",
            category=row["category"],
            image=row["question_id"],
        )
        for n, row in enumerate(GOLDEN["mme_total"]["rows"])
    ]
    scores = score_vqa(rows, "mme")
    found = values(scores)
    assert found["total"] == pytest.approx(GOLDEN["mme_total"]["score"])
    assert found["perception"] == found["total"]
    assert found["count"] == pytest.approx(100 * (3 / 6 + 1 / 3))
    assert found["OCR"] == 200
    assert "cognition" not in found
    assert len(scores.unread) == 3
    assert scores.groups is not None
    assert scores.groups.tolist() == [0, 0, 1, 1, 2, 2, 3, 3]
    with pytest.raises(UserError, match="two questions on each, but 4 of OCR has 1"):
        score_vqa(rows[:-1], "mme")


CHOICES = {"A": "red", "B": "dark blue", "C": "green"}


@pytest.mark.parametrize(
    ("text", "right"),
    [
        ("B", True),
        ("B.", True),
        ("(B) dark blue", True),
        ("dark blue", True),
        ("Dark blue.", True),
        ("It is dark blue", True),
        ("A", False),
        ("Because", False),
        ("red or green", False),
        ("", False),
    ],
)
def test_mmbench_reads_letters_and_choices(text: str, right: bool) -> None:
    found = score_vqa([answer(7, text, references="B", **CHOICES)], "mmbench")
    assert values(found)["vanilla"] == right


def test_mmbench_is_right_in_every_rotation_or_wrong() -> None:
    rows = [
        answer(7, "A", references="A", **CHOICES),
        answer(8, "C", references="C", **CHOICES),
        answer(1_000_007, "B", references="B", **CHOICES),
        answer(1_000_008, "A", references="B", **CHOICES),
        answer(2_000_007, "who knows", references="C", **CHOICES),
        answer(9, "C", references="C", **CHOICES),
    ]
    scores = score_vqa(rows, "mmbench")
    assert values(scores) == {"circular": pytest.approx(1 / 3), "vanilla": pytest.approx(4 / 6)}
    assert scores.unread == (4,)
    test_split = [answer(row.question_id, row.text, **CHOICES) for row in rows]
    unknown = score_vqa(test_split, "mmbench")
    assert values(unknown) == {}
    assert "submit submission.xlsx" in unknown.not_measured["circular"]


def test_mmbenchs_submission_is_read_back(tmp_path) -> None:
    from openpyxl import load_workbook

    from pad_pipeline.evaluate.scoring.mmbench import submission

    path = tmp_path / "submission.xlsx"
    rows = [answer(7, "=1+1", question="Which?", **CHOICES), answer(8, "A\x00", **CHOICES)]
    path.write_bytes(submission(rows))
    sheet = load_workbook(path).active
    assert sheet is not None
    found = [[cell or "" for cell in row] for row in sheet.values]
    assert found[0] == ["index", "question", "A", "B", "C", "D", "prediction"]
    assert found[1] == [7, "Which?", "red", "dark blue", "green", "", "=1+1"]
    assert found[2][-1] == "A "


def test_any_short_answers_are_compared_but_for_case_and_punctuation() -> None:
    rows = [
        answer(1, "Red.", references="red", category="colour"),
        answer(2, "blue", references=["red", "crimson"], category="colour"),
        answer(3, "2", references=2, category="count"),
    ]
    found = values(score_vqa(rows, "exact"))
    assert found == {
        "accuracy": pytest.approx(2 / 3),
        "accuracy/colour": 0.5,
        "accuracy/count": 1.0,
    }


def test_a_share_without_questions_has_no_value() -> None:
    rows = [answer(1, "A", references="A")]
    assert np.isnan(values(score_vqa(rows, "scienceqa"))["accuracy_img"])
