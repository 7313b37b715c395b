"""Referring expressions as users hold them: the refer API's folder, the hub's Parquet, a list."""

from __future__ import annotations

from pathlib import Path
from typing import Any

from pad_pipeline import storage
from pad_pipeline.errors import Setting, UserError
from pad_pipeline.evaluate.questions.listed import read_rows
from pad_pipeline.evaluate.questions.parquet import parquet_rows
from pad_pipeline.evaluate.questions.question import (
    Question,
    place_images,
    read_image,
)
from pad_pipeline.evaluate.questions.refer_api import read_refer_folder
from pad_pipeline.sources import ManifestRow


def read_referring_questions(
    source: str, images: str | None, split: str | None, split_by: str | None
) -> tuple[list[Question], str]:
    """(a question per sentence with `bbox` or `references`, the split and where it is from).

    `source` is a folder of the refer API, a Parquet file of the hub (`question_id`, `image`,
    `answer`, `bbox`) or a list as JSON or JSON Lines. Raises `UserError` where it is none of these.
    """
    folder = storage.local_path(source)
    if folder is not None and folder.is_dir():
        rows, where = read_refer_folder(folder, split, split_by)
        return place_images(str(Path(source, "instances.json")), images, rows), where
    for name, value in (("split", split), ("split_by", split_by)):
        if value is not None:
            raise UserError(f"{source} is one split; leave out ", Setting(name, value))
    if source.lower().endswith((".parquet", ".pq")):
        return _hub(source), f"the file {source}"
    return place_images(source, images, read_rows(source)), f"the file {source}"


def with_size(question: Question) -> Question:
    """The question with the `width` and `height` of its image, read from it where they are not
    there."""
    if {"width", "height"} <= question.entry.keys() or question.image is None:
        return question
    height, width = read_image(question).shape[:2]
    entry = {**question.entry, "width": width, "height": height}
    return Question(question.question_id, question.text, question.image, entry)


def _hub(source: str) -> list[Question]:
    return [
        question
        for row, image in parquet_rows(source, ("question_id", "answer", "bbox"))
        for question in _sentences(row, image)
    ]


def _sentences(row: dict[str, Any], image: ManifestRow) -> list[Question]:
    said = row["answer"] if isinstance(row["answer"], list) else [row["answer"]]
    return [
        Question(f"{row['question_id']}/{number}", str(text), image, {"bbox": list(row["bbox"])})
        for number, text in enumerate(said)
    ]
