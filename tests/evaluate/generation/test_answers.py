"""Models answer the same in batches and one at a time, from runs and exports."""

from __future__ import annotations

import json
import shutil
from pathlib import Path

import pytest

from pad_pipeline.errors import UserError
from pad_pipeline.evaluate.generation.config import GenerationConfig
from pad_pipeline.evaluate.generation.loop import answer_batches, make_batches
from pad_pipeline.evaluate.generation.model import open_answerer
from pad_pipeline.evaluate.questions.question import Question
from pad_pipeline.evaluate.questions.read import read_questions

CPU = GenerationConfig(device="cpu")


def questions_of(scenes: Path) -> list[Question]:
    source = str(scenes / "questions.jsonl")
    return read_questions("vqa", source, benchmark="exact")[0]


@pytest.mark.parametrize("name", ["stage1", "stage2", "export"])
def test_batches_give_the_answers_of_one_at_a_time(scenes: Path, name: str) -> None:
    questions = questions_of(scenes)
    if name == "stage1":  # it captions images
        questions = [question for question in questions if question.image is not None]
    answerer = open_answerer(str(scenes / name), CPU)
    found = {}
    for size in (1, 4):
        batches = make_batches(questions, size)
        found[size] = {
            questions[place].question_id: text
            for number, texts in answer_batches(answerer, questions, [*enumerate(batches)], 24)
            for place, text in zip(batches[number], texts, strict=True)
        }
    assert found[4] == found[1]
    assert len(found[1]) == len(questions)
    assert len(set(found[1].values())) > 1
    assert any(len(text.split()) > 3 for text in found[1].values())


def test_an_export_gives_the_answers_of_its_run(scenes: Path) -> None:
    questions = questions_of(scenes)
    batches = [*enumerate(make_batches(questions, 4))]
    ours, exported = (
        dict(answer_batches(open_answerer(str(scenes / name), CPU), questions, batches, 24))
        for name in ("stage2", "export")
    )
    assert exported == ours


def test_batches_put_like_with_like_and_do_not_depend_on_what_is_answered() -> None:
    questions = [Question(str(n), "x" * (n * 7 % 5), None) for n in range(7)]
    batches = make_batches(questions, 3)
    assert sorted(place for batch in batches for place in batch) == list(range(7))
    lengths = [len(questions[place].text) for batch in batches for place in batch]
    assert lengths == sorted(lengths, reverse=True)


def test_an_export_without_a_template_asks_for_one(scenes: Path, tmp_path: Path) -> None:
    export = shutil.copytree(scenes / "export", tmp_path / "export")
    without_template(export)
    with pytest.raises(UserError, match=r"has no chat template; say how .* template='vicuna-v1'"):
        open_answerer(str(export), CPU)


def test_an_export_of_another_template_is_named(scenes: Path, tmp_path: Path) -> None:
    export = shutil.copytree(scenes / "export", tmp_path / "export")
    without_template(export)
    (export / "chat_template.jinja").write_text("{{ 'Q: <image> x A:' }}")
    open_answerer(str(export), CPU)
    with pytest.raises(UserError, match=r"has a chat template of its own.*leave that out"):
        open_answerer(str(export), GenerationConfig(device="cpu", template="vicuna-v1"))
    with pytest.raises(UserError, match=r"trained with the template vicuna-v1; leave out temp"):
        open_answerer(str(scenes / "stage2"), GenerationConfig(template="llama-3"))


def without_template(export: Path) -> None:
    (export / "chat_template.jinja").unlink(missing_ok=True)
    for path in export.glob("*config.json"):
        values = json.loads(path.read_text())
        if values.pop("chat_template", None):
            path.write_text(json.dumps(values))


@pytest.mark.parametrize(
    ("reference", "message"),
    [
        ("nowhere/at/all", "there is no run and no model at nowhere/at/all"),
        ("images", "is neither a run of `train`"),
    ],
)
def test_what_is_no_model_is_named(scenes: Path, reference: str, message: str) -> None:
    place = str(scenes / reference) if reference == "images" else reference
    with pytest.raises(UserError, match=message):
        open_answerer(place, CPU)


def test_a_prompt_without_room_for_its_answer_is_named(scenes: Path) -> None:
    answerer = open_answerer(str(scenes / "stage2"), CPU)
    [first, *_] = questions_of(scenes)
    with pytest.raises(UserError, match=r"question 0 has .* tokens .* lower max_new_tokens"):
        answerer.answer([answerer.prepare(first)], 500)
