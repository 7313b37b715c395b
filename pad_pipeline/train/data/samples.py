"""The samples of a run in one Arrow file that workers map into memory: text, image, regions.

Random access to Parquet shards would decode thousands of rows for one. The file holds what
training needs, once, and is written before training begins; no worker holds it in memory.
"""

from __future__ import annotations

import hashlib
import json
import tempfile
from collections import Counter
from collections.abc import Iterable, Iterator
from dataclasses import dataclass, field
from itertools import islice
from pathlib import Path
from typing import Any

import numpy as np
import pyarrow as pa

from pad_pipeline import storage
from pad_pipeline.dataset.reader import iter_records, open_dataset
from pad_pipeline.dataset.record_images import find_record_image
from pad_pipeline.errors import Setting, UserError
from pad_pipeline.sources import ManifestRow
from pad_pipeline.sources.entries import read_json_array, read_json_lines
from pad_pipeline.sources.manifests import make_locator
from pad_pipeline.sources.rows import relative_id
from pad_pipeline.train.choices import TrainingStage

_SCHEMA = pa.schema(
    [
        pa.field("id", pa.string(), nullable=False),
        pa.field("uri", pa.string()),
        pa.field("offset", pa.int64(), nullable=False),
        pa.field("size", pa.int64(), nullable=False),
        pa.field("width", pa.int32(), nullable=False),
        pa.field("height", pa.int32(), nullable=False),
        pa.field("caption", pa.string()),
        pa.field("turns", pa.string()),
        pa.field("tags", pa.list_(pa.string()), nullable=False),
        pa.field("masks", pa.list_(pa.string()), nullable=False),
        pa.field("length", pa.int32(), nullable=False),
    ]
)
_ROWS_PER_BATCH = 1024
_SAMPLED = 20


@dataclass(frozen=True, slots=True, kw_only=True)
class TrainingSample:
    """One sample before it is read: a caption (stage 1) or turns (stage 2), image and regions.

    `image` is None for text alone. `width` and `height` are the annotated image's pixels, 0 where
    it has no annotation; `masks` are COCO counts of that size, one per tag.
    """

    id: str
    image: ManifestRow | None
    caption: str | None = None
    turns: list[dict[str, str]] | None = None
    width: int = 0
    height: int = 0
    tags: list[str] = field(default_factory=list)
    masks: list[str] = field(default_factory=list)

    @property
    def length(self) -> int:
        """LLaVA's measure of length: words of the text, negative for text without an image."""
        texts = [turn["value"] for turn in self.turns or []] or [self.caption or ""]
        words = sum(len(text.split()) for text in texts)
        return words if self.image is not None else -words


class TrainingSamples:
    """The samples of a run by number; mapped from the file that `write_samples` wrote."""

    def __init__(self, path: str | Path) -> None:
        """Map the Arrow file at `path` (local)."""
        table = pa.ipc.open_file(pa.memory_map(str(path))).read_all()
        self._columns = {name: table[name] for name in table.column_names}
        self.lengths = table["length"].to_numpy().astype(np.int64)
        """(N,) words per sample, negative without an image."""

    def __len__(self) -> int:
        """The number of samples."""
        return len(self.lengths)

    def __getitem__(self, index: int) -> TrainingSample:
        """One sample."""
        row = {name: column[index].as_py() for name, column in self._columns.items()}
        image = None
        if row["uri"] is not None:
            image = ManifestRow(row["id"], row["uri"], None, row["offset"], row["size"])
        return TrainingSample(
            id=row["id"],
            image=image,
            caption=row["caption"],
            turns=json.loads(row["turns"]) if row["turns"] is not None else None,
            width=row["width"],
            height=row["height"],
            tags=row["tags"],
            masks=row["masks"],
        )


def write_samples(
    source: str, images: str | None, stage: TrainingStage, path: Path
) -> tuple[int, Counter[str]]:
    """Write the samples of `source` to `path`; returns their number and what was left out.

    `source` is a data set of PAD records or, without regions, LLaVA's JSON (or JSONL); `images`
    is where the images are. Raises `UserError` where there is nothing to train on.
    """
    left_out: Counter[str] = Counter()
    if stage == "pretrain" and not source.lower().endswith((".json", ".jsonl")):
        samples = _annotated(source, images, left_out)
    else:
        samples = _conversations(source, images, stage, left_out)
    number = 0
    with pa.OSFile(str(path), "wb") as file, pa.ipc.new_file(file, _SCHEMA) as writer:
        while rows := list(islice(samples, _ROWS_PER_BATCH)):
            writer.write_batch(_to_batch(rows))
            number += len(rows)
    if not number:
        reasons = "; ".join(f"{count:,} {reason}" for reason, count in left_out.most_common())
        raise UserError(
            f"{source} has no sample to train on: {reasons or 'it is empty'}. Stage 1 needs images "
            "with captions: annotate with ",
            Setting("captions"),
            ", or give LLaVA's JSON",
        )
    return number, left_out


def source_digest(source: str, images: str | None) -> str:
    """A checksum that changes with the samples of `source`."""
    if source.lower().endswith((".json", ".jsonl")):
        content = storage.version(source)
    else:
        dataset = open_dataset(source)
        rows = [[shard.name, shard.num_rows] for shard in dataset.shards]
        content = json.dumps([dataset.manifest.get("shards"), dataset.state, rows])
    return hashlib.sha256(f"{source}\n{images}\n{content}".encode()).hexdigest()[:16]


def local_copy(url: str) -> Path:
    """The file at `url` on this machine, fetched to the temporary folder where it is remote."""
    path = storage.local_path(url)
    if path is not None:
        return path
    name = hashlib.sha256(f"{url}{storage.version(url)}".encode()).hexdigest()[:16]
    target = Path(tempfile.gettempdir(), f"pad-samples-{name}.arrow")
    if not target.exists():
        storage.download(url, target)
    return target


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
    for number, entry in enumerate(_chained(first, entries)):
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


def _chained(first: list[dict[str, Any]], rest: Iterator[dict[str, Any]]) -> Iterator[dict]:
    yield from first
    yield from rest


def _to_batch(samples: list[TrainingSample]) -> pa.RecordBatch:
    rows = [
        {
            "id": sample.id,
            "uri": sample.image.uri if sample.image else None,
            "offset": sample.image.offset if sample.image else -1,
            "size": sample.image.size if sample.image else -1,
            "width": sample.width,
            "height": sample.height,
            "caption": sample.caption,
            "turns": json.dumps(sample.turns) if sample.turns is not None else None,
            "tags": sample.tags,
            "masks": sample.masks,
            "length": sample.length,
        }
        for sample in samples
    ]
    return pa.RecordBatch.from_pylist(rows, schema=_SCHEMA)
