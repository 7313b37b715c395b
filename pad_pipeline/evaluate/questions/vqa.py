"""Questions of the VQA benchmarks in their published files, or in a list of one's own.

| benchmark | files |
|---|---|
| GQA | testdev_balanced_questions.json |
| ScienceQA | problems.json (a split of it), LLaVA's llava_test_CQM-A.json |
| VizWiz | val.json |
| OK-VQA | OpenEnded_mscoco_val2014_questions.json beside mscoco_val2014_annotations.json |
| TextVQA | TextVQA_0.5.1_val.json |
| POPE | coco_pope_random.json and the like, JSON Lines |
| MME | the hub's Parquet |
| MMBench | mmbench_dev_*.tsv |
"""

from __future__ import annotations

import csv
import io
import json
import re
import sys
from collections.abc import Callable, Mapping
from pathlib import PurePosixPath
from typing import Any

from pad_pipeline import storage
from pad_pipeline.errors import Setting, UserError
from pad_pipeline.evaluate.choices import Benchmark
from pad_pipeline.evaluate.questions.captions import read_object
from pad_pipeline.evaluate.questions.listed import Row, as_references, read_rows
from pad_pipeline.evaluate.questions.parquet import parquet_rows
from pad_pipeline.evaluate.questions.question import Question, place_images

_LETTERS = "ABCDEFGHIJ"
_LETTER = re.compile(r"^The answer is ([A-J])\.$")


def read_vqa_questions(
    source: str, images: str | None, benchmark: Benchmark, split: str | None
) -> tuple[list[Question], str]:
    """(questions with their `references`, the split and where it is from).

    Raises `UserError` where `source` has neither the benchmark's form nor that of a list with
    `question_id`, `question`, `image` and `references`.
    """
    where = f"the file {source}" if split is None else f"{split} of {source}"
    if source.lower().endswith((".parquet", ".pq")):
        return _mme(source), where
    if source.lower().endswith(".tsv"):
        return _mmbench(source), where
    whole = read_object(source)
    try:
        if whole is not None and benchmark in _READERS:
            rows = _READERS[benchmark](source, whole, split)
        elif benchmark == "pope":
            rows = _pope(source)
        elif benchmark == "scienceqa":
            rows = [_with_letter(row) for row in read_rows(source)]
        else:
            rows = read_rows(source, referenced=benchmark != "mmbench")
    except (KeyError, TypeError, AttributeError, IndexError) as error:
        raise UserError(
            f"{source} is not in the form of {benchmark} ({type(error).__name__}: {error}); "
            "expected the benchmark's own file or a list with question_id, question, image and "
            "references"
        ) from error
    return place_images(source, images, rows), where


def _gqa(source: str, whole: Mapping[str, Any], split: str | None) -> list[Row]:
    del source, split
    return [
        (name, each["question"], f"{each['imageId']}.jpg", {"references": [each["answer"]]})
        for name, each in whole.items()
    ]


def _scienceqa(source: str, whole: Mapping[str, Any], split: str | None) -> list[Row]:
    chosen = split or "test"
    rows: list[Row] = []
    for name, each in whole.items():
        if each["split"] != chosen:
            continue
        choices = [str(choice) for choice in each["choices"]]
        if len(choices) > len(_LETTERS):
            raise UserError(f"question {name} of {source} has {len(choices)} choices: too many")
        letters = _LETTERS[: len(choices)]
        listed = [f"{letter}. {text}" for letter, text in zip(letters, choices, strict=True)]
        parts = [each["hint"], each["question"], *listed]
        entry = {"references": [_LETTERS[each["answer"]]], "choices": choices}
        path = f"{chosen}/{name}/{each['image']}" if each["image"] else None
        entry |= {"has_image": path is not None}
        rows.append((name, "\n".join(part for part in parts if part), path, entry))
    if not rows:
        raise UserError(
            f"{source} has no questions of the split {chosen!r}; choose with ", Setting("split")
        )
    return rows


def _with_letter(row: Row) -> Row:
    """LLaVA's conversations answer with a sentence: its letter is the reference."""
    name, text, path, entry = row
    said = [_LETTER.sub(r"\1", str(reference)) for reference in entry["references"]]
    return name, text, path, {**entry, "references": said, "has_image": path is not None}


def _textvqa(source: str, whole: Mapping[str, Any], split: str | None) -> list[Row]:
    del source, split
    return [
        (
            str(each["question_id"]),
            each["question"],
            f"{each['image_id']}.jpg",
            {"references": as_references(each["answers"])},
        )
        for each in whole["data"]
    ]


def _okvqa(source: str, whole: Mapping[str, Any], split: str | None) -> list[Row]:
    del split
    name = PurePosixPath(source).name
    beside = name.replace("OpenEnded_", "").replace("_questions", "_annotations")
    place = storage.join(source.removesuffix(name), beside)
    if beside == name or not storage.exists(place):
        raise UserError(
            f"OK-VQA's answers should be in {beside} beside {source}, which is not there; put "
            "both files into one folder"
        )
    annotations = {
        a["question_id"]: a for a in json.loads(storage.read_bytes(place))["annotations"]
    }
    return [
        (
            str(each["question_id"]),
            each["question"],
            f"COCO_val2014_{each['image_id']:012d}.jpg",
            {"references": as_references(annotations[each["question_id"]]["answers"])},
        )
        for each in whole["questions"]
    ]


def _pope(source: str) -> list[Row]:
    """POPE's files name their category: coco_pope_random.json."""
    name = PurePosixPath(source).stem
    category = next((c for c in ("random", "popular", "adversarial") if c in name), None)
    rows = read_rows(source)
    return [
        (number, text, path, entry if category is None else {"category": category, **entry})
        for number, text, path, entry in rows
    ]


def _mme(source: str) -> list[Question]:
    """Two questions on each image; `question_id` names the image."""
    questions: list[Question] = []
    for row, image in parquet_rows(source, ("question_id", "question", "answer", "category")):
        shared = str(row["question_id"])
        entry = {
            "references": [row["answer"]],
            "category": row["category"],
            "image": shared,
        }
        questions.append(Question(f"{shared}#{len(questions)}", row["question"], image, entry))
    return questions


def _mmbench(source: str) -> list[Question]:
    csv.field_size_limit(sys.maxsize)
    text = storage.read_bytes(source).decode("utf-8-sig")
    questions = []
    for row in csv.DictReader(io.StringIO(text, newline=""), delimiter="\t"):
        if not {"index", "question", "A", "B", "image"} <= row.keys():
            raise UserError(
                f"{source} should have the columns of MMBench: index, question, image, A, B"
            )
        choices = {name: row[name] for name in "ABCD" if row.get(name) not in (None, "", "nan")}
        hint = row.get("hint") if row.get("hint") not in (None, "", "nan") else None
        listed = [f"{letter}. {choice}" for letter, choice in choices.items()]
        entry: dict[str, Any] = {"question": row["question"], **choices}
        entry |= {name: row[name] for name in ("category", "l2-category") if row.get(name)}
        if row.get("answer") not in (None, "", "nan"):
            entry["references"] = [row["answer"]]
        asked = "\n".join([*([hint] if hint else []), row["question"], *listed])
        questions.append(Question(row["index"], asked, row["image"], entry))
    if not questions:
        raise UserError(f"{source} holds no questions")
    by_index = {question.question_id: question for question in questions}
    return [_with_picture(question, by_index) for question in questions]


def _with_picture(question: Question, by_index: Mapping[str, Question]) -> Question:
    """An image cell that is another row's index stands for that row's image."""
    other = by_index.get(str(question.image))
    if other is None:
        return question
    return Question(question.question_id, question.text, other.image, question.entry)


_READERS: dict[Benchmark, Callable[[str, Mapping[str, Any], str | None], list[Row]]] = {
    "gqa": _gqa,
    "scienceqa": _scienceqa,
    "textvqa": _textvqa,
    "ok-vqa": _okvqa,
}
