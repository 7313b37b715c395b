"""The questions of an evaluation by its kind."""

from __future__ import annotations

from pad_pipeline import storage
from pad_pipeline.errors import UserError
from pad_pipeline.evaluate.choices import Benchmark, Kind
from pad_pipeline.evaluate.questions.captions import read_caption_questions
from pad_pipeline.evaluate.questions.question import Question
from pad_pipeline.evaluate.questions.referring import read_referring_questions, with_size
from pad_pipeline.evaluate.questions.vqa import read_vqa_questions


def read_questions(
    kind: Kind,
    source: str,
    images: str | None = None,
    *,
    benchmark: Benchmark | None = None,
    split: str | None = None,
    split_by: str | None = None,
) -> tuple[list[Question], str | None]:
    """(questions in the order of the source, their split and where it is from).

    Raises `UserError` where the source is not there, is in no form that the kind knows, or images
    are missing.
    """
    source, images = storage.absolute(source), images and storage.absolute(images)
    if not storage.exists(source):
        raise UserError(f"no questions at {source}: nothing is there")
    if kind == "captions":
        questions, where = read_caption_questions(source, images, split)
    elif kind == "referring":
        found, where = read_referring_questions(source, images, split, split_by)
        questions = [with_size(question) for question in found]
    else:
        assert benchmark is not None
        questions, where = read_vqa_questions(source, images, benchmark, split)
    without = [q.question_id for q in questions if q.image is None]
    if kind != "vqa" and without:
        raise UserError(f"question {without[0]} of {source} has no image; name one in its entry")
    return questions, where
