"""The miniature: stage 2 trains what stage 1 left, and the tables say what was measured."""

from __future__ import annotations

import json
import pickle
from dataclasses import replace
from functools import partial
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch

from pad_pipeline.evaluate.answers import Answer
from pad_pipeline.reproduce import miniature, on_ray
from pad_pipeline.reproduce.bench import QUICK, Bench
from pad_pipeline.reproduce.second_stage import SecondSize, SecondStage
from pad_pipeline.reproduce.tables import answer_row, table_lines, where_row
from pad_pipeline.scenes.questions import box_numbers
from pad_pipeline.train.choices import PAPER_PROJECTORS
from pad_pipeline.view.runs import read_runs

TINY = replace(QUICK, num_scenes=8, num_held_out=3, num_steps=2, batch=4)
TINY_SECOND = SecondSize(num_scenes=6, num_steps=2, batch=2, num_more_asked=2)


@pytest.fixture(scope="module")
def second() -> SecondStage:
    return SecondStage(Bench(TINY), TINY_SECOND)


def test_stage_2_trains_a_copy_and_answers_every_question(second: SecondStage) -> None:
    model, _, _ = second.bench.run("mlp", "caption", 0)
    before = {name: tensor.clone() for name, tensor in model.state_dict().items()}
    trained, loss = second.run(model, 0)
    assert 0 < loss < 10
    assert all(torch.equal(before[name], tensor) for name, tensor in model.state_dict().items())
    after = trained.state_dict()
    changed = {n for n, t in before.items() if n in after and not _is_equal(after[n], t)}
    assert {name.partition(".")[0] for name in changed} == {"projector", "llm"}
    answers = second.answer(trained)
    assert len(answers) == len({a.question_id for a in answers}) == len(second.asked)
    assert {"where", "yes or no"} <= {a.entry["category"] for a in answers}
    scenes = {a.question_id.partition("/")[0] for a in answers}
    assert scenes == {str(40_000_000 + number) for number in range(3 + 2)}
    assert not scenes & {example.id for example in [*second.train, *second.bench.train]}
    again = second.answer(second.run(model, 0)[0])
    assert [a.text for a in again] == [a.text for a in answers]


def test_numbers_of_boxes_are_tokens_that_are_learnt(second: SecondStage) -> None:
    ids = second.tokenizer.convert_tokens_to_ids(box_numbers())
    assert ids == list(range(768, 768 + len(ids)))
    talk = second._conversation(second.train[0], np.random.default_rng(0))
    assert set(ids) & {label for label in talk.labels if label > 0}


def _is_equal(one: torch.Tensor, other: torch.Tensor) -> bool:
    return one.shape == other.shape and torch.equal(one, other)


def said(question: int, topic: str, text: str, truth: Any) -> Answer:
    entry = {"question_id": str(question), "category": topic, "references": truth}
    return Answer(str(question), text, entry | {"width": 100, "height": 100}, "here")


def sheet(box: str, word: str) -> list[Answer]:
    topics = ("colour", "kind", "count", "side", "yes or no")
    words = [said(n, topic, word, ["red"]) for n, topic in enumerate(topics)]
    return [*words, *(said(n, "where", box, [10, 10, 50, 50]) for n in range(5, 8))]


def test_rows_have_both_arms_their_seeds_and_the_interval_of_the_difference() -> None:
    good, bad = sheet("[0.10, 0.10, 0.50, 0.50]", "Red"), sheet("nowhere", "blue")
    row = answer_row({"caption": [bad, bad], "patch_aligned": [good, bad]})
    assert list(row) == ["Acc@0.5", "mIoU", "colour", "kind", "count", "side", "yes or no"]
    assert row["Acc@0.5"]["patch_aligned"]["values"] == [1.0, 0.0]
    assert row["colour"]["difference"] == {"mean": 0.5, "interval": (0.5, 0.5)}
    # all questions alike: to draw them again changes nothing, as seeds are not drawn
    assert row["mIoU"]["patch_aligned"]["interval"] == (0.5, 0.5)
    tables = {"Table 8": {"mlp": where_row({"caption": [bad], "patch_aligned": [good]})}}
    lines = table_lines(tables | {"Table 4": "METEOR needs Java"})
    assert "1.000 [1.000, 1.000]" in "\n".join(lines)
    assert lines[-1] == "  not measured: METEOR needs Java"


def test_a_small_reproduction_runs_to_its_tables(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(miniature, "QUICK", TINY)
    monkeypatch.setattr(miniature, "QUICK_SECOND", TINY_SECOND)
    monkeypatch.setattr(miniature.shutil, "which", lambda name: None)  # as without Java
    lines = miniature.reproduce(tmp_path, quick=True)
    found = json.loads((tmp_path / "results.json").read_text())
    # a worker on Ray gets what can be pickled, and finds the same of its run alone
    prepare = pickle.loads(pickle.dumps(partial(miniature._prepare, TINY, TINY_SECOND)))
    run = miniature._Run("mlp", "patch_aligned", 0)
    again, measured = pickle.loads(pickle.dumps(on_ray._prepare(prepare)(run)))
    assert again == run
    assert set(measured.values) == {*found["mlp"]["random"], "stage_2_loss"}
    for name, value in measured.values.items():
        assert found["mlp"]["patch_aligned"][name]["values"] == pytest.approx([value], rel=1e-4)
    assert set(found) == {*PAPER_PROJECTORS, "table_4", "table_5", "table_8"}
    assert set(found["table_8"]) == {"mlp", "c-abstractor"}
    assert found["table_4"].startswith("METEOR needs Java")
    assert found["table_5"]["mlp"]["yes or no"]["caption"]["interval"]
    assert any(line.startswith("Table 5") for line in lines)
    shown = read_runs(str(tmp_path))[0].images
    assert set(shown) == {f"scene {40_000_000 + number}" for number in range(3)}
    assert all(image["caption"] for image in shown.values())
