"""The page of two evaluations, on what `evaluate … --against` writes."""

from __future__ import annotations

import json
from pathlib import Path

import pytest

from pad_pipeline.errors import UserError
from pad_pipeline.evaluate.evaluation import score_answers
from pad_pipeline.view.server import open_viewer
from tests.dataset.example import example_records
from tests.view.conftest import open_client
from tests.view.html import page


def write_answers(folder: Path) -> tuple[str, str]:
    """Three questions with answers of one word; the first two differ, each once for the better."""
    image = example_records()[0].image_id
    paths = []
    for name, answers in (("before", ("red", "<b>two</b>", "x")), ("after", ("blue", "two", "x"))):
        lines = [
            {
                "question_id": f"q{number}",
                "prompt": "What?",
                "answer": answer,
                "references": ["red" if number == 0 else "two"],
                "image": f"folder/{image}" if number == 0 else None,
            }
            for number, answer in enumerate(answers)
        ]
        path = folder / f"{name}.jsonl"
        path.write_text("".join(json.dumps(line) + "\n" for line in lines))
        paths.append(str(path))
    return paths[0], paths[1]


@pytest.fixture
def compared(tmp_path: Path) -> Path:
    before, after = write_answers(tmp_path)
    options = {"benchmark": "exact"}
    score_answers(before, str(tmp_path / "before"), "vqa", options)
    against = str(tmp_path / "before")
    score_answers(after, str(tmp_path / "after"), "vqa", options, against=against)
    return tmp_path / "after"


def test_differences_and_the_questions_behind_them(shared_data: Path, compared: Path) -> None:
    client = open_client(
        shared_data, images=str(shared_data.parent / "images"), runs=[str(compared)]
    )
    found = page(client, "/evaluations")
    text = " ".join(found.text.split())
    assert "+0.0000" in text
    assert "equal on 1 question" in text
    assert "worse here 1" in text
    assert "0.00 here: blue" in text
    assert "1.00 against: red" in text
    assert "expected: red" in text
    assert any(link.startswith("/image/") for link in found.all("a", "href"))
    wins = page(client, "/evaluations?show=wins")
    assert "<b>two</b>" in wins.text  # as text
    assert "start `pad-pipeline view` with" in page(client, "/evaluations?number=1", 404).text


def test_a_damaged_comparison_is_named(shared_data: Path, compared: Path) -> None:
    (compared / "comparison.json").write_text('{"metrics": {}}')
    with pytest.raises(UserError, match=r"the comparison in .* is damaged .*KeyError"):
        open_viewer(str(shared_data), runs=[str(compared)])
