"""Where samples come from: data sets of PAD records, or LLaVA's conversations as JSON."""

from __future__ import annotations

import hashlib
import json
from collections import Counter
from collections.abc import Iterable, Iterator
from itertools import chain, islice
from typing import Any

from pad_pipeline import storage
from pad_pipeline.dataset.reader import iter_records, open_dataset
from pad_pipeline.dataset.record_images import find_record_image
from pad_pipeline.errors import UserError
from pad_pipeline.sources import ManifestRow
from pad_pipeline.sources.entries import read_json_array, read_json_lines
from pad_pipeline.sources.manifests import make_locator
from pad_pipeline.sources.rows import relative_id
from pad_pipeline.train.choices import TrainingStage
from pad_pipeline.train.data.samples import TrainingSample

_SAMPLED = 20
"""Entries from whose paths the place of the images is found."""


def read_samples(
    source: str, images: str | None, stage: TrainingStage, left_out: Counter[str]
) -> Iterator[TrainingSample]:
    """The samples of `source` in order; `left_out` counts by reason what cannot be trained on.

    `source` is a data set of PAD records or, without regions, LLaVA's JSON (or JSONL); `images`
    is where the images are. Raises `UserError` for a source that is neither.
    """
    if stage == "pretrain" and not source.lower().endswith((".json", ".jsonl")):
        return _annotated(source, images, left_out)
    return _conversations(source, images, stage, left_out)


def source_digest(source: str, images: str | None) -> str:
    """A checksum that changes with the samples of `source`."""
    if source.lower().endswith((".json", ".jsonl")):
        content = storage.version(source)
    else:
        dataset = open_dataset(source)
        rows = [[shard.name, shard.num_rows] for shard in dataset.shards]
        content = json.dumps([dataset.manifest.get("shards"), dataset.state, rows])
    return hashlib.sha256(f"{source}\n{images}\n{content}".encode()).hexdigest()[:16]


def _annotated(source: str, images: str | None, left_out: Counter[str]) -> Iterator[TrainingSample]:
    dataset = open_dataset(source)
    if images is not None and not storage.exists(images):
        raise UserError(f"no such folder or archive of images: {images}")
    for record in iter_records(dataset):
        if record.status == "failed":
            left_out["that failed when they were annotated"] += 1
        elif not (record.caption or "").strip():
            left_out["without a caption"] += 1
        elif (image := find_record_image(record, images)) is None:
            left_out[f"whose image is not in {images}"] += 1
        else:
            yield TrainingSample(
                id=record.image_id,
                image=image,
                caption=record.caption,
                width=record.width,
                height=record.height,
                tags=[region.tag for region in record.labels],
                masks=[region.rle_mask for region in record.labels],
            )


def _conversations(
    source: str, images: str | None, stage: TrainingStage, left_out: Counter[str]
) -> Iterator[TrainingSample]:
    entries = _entries(source)
    first = list(islice(entries, _SAMPLED))
    paths = [entry["image"] for entry in first if isinstance(entry.get("image"), str)]
    locate = make_locator(source, images, paths)
    for number, entry in enumerate(chain(first, entries)):
        turns = _turns(source, number, entry)
        path = entry.get("image")
        image, name = None, str(entry.get("id", number))
        if isinstance(path, str) and path:
            name = relative_id(path)
            image = ManifestRow(name, locate(path)[0], None, *locate(path)[1:])
        if stage == "finetune":
            yield TrainingSample(id=name, image=image, turns=turns)
            continue
        answers = [turn["value"] for turn in turns if turn["from"] in ("gpt", "assistant")]
        if image is None:
            left_out["without an image"] += 1
        elif not answers or not answers[0].strip():
            left_out["without a caption"] += 1
        else:
            yield TrainingSample(id=name, image=image, caption=answers[0])


def _entries(source: str) -> Iterator[dict[str, Any]]:
    if source.lower().endswith(".jsonl"):
        values: Iterable[Any] = (value for _, _, value in read_json_lines(source))
    elif source.lower().endswith(".json"):
        values = read_json_array(source)
    else:
        raise UserError(
            f"expected LLaVA's conversations as .json or .jsonl, found {source}; stage 2 trains on "
            "conversations, stage 1 (`train pretrain`) on annotations"
        )
    for number, value in enumerate(values):
        if not isinstance(value, dict):
            raise UserError(f"{source}: entry {number + 1} should be an object with conversations")
        yield value


def _turns(source: str, number: int, entry: dict[str, Any]) -> list[dict[str, str]]:
    turns = entry.get("conversations")
    if not isinstance(turns, list) or not all(
        isinstance(turn, dict) and isinstance(turn.get("value"), str) and "from" in turn
        for turn in turns
    ):
        raise UserError(
            f"{source}: entry {number + 1} should hold "
            '"conversations": [{"from": "human", "value": "…"}, {"from": "gpt", "value": "…"}]'
        )
    return [{"from": str(turn["from"]), "value": turn["value"]} for turn in turns]
