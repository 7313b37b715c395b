"""The samples of a run in one Arrow file that workers map into memory: text, image, regions.

Random access to Parquet shards would decode thousands of rows for one. The file holds what
training needs, once, and is written before training begins; no worker holds it in memory.
"""

from __future__ import annotations

import hashlib
import json
import logging
import tempfile
from collections.abc import Sequence
from itertools import islice
from pathlib import Path

import numpy as np
import pyarrow as pa

from pad_pipeline import storage
from pad_pipeline.errors import Setting, UserError
from pad_pipeline.review.choice import ReviewChoice
from pad_pipeline.sources import ManifestRow
from pad_pipeline.train.choices import TrainingStage, reads_conversations
from pad_pipeline.train.data.left_out import LeftOutSamples
from pad_pipeline.train.data.region_join import RegionJoin
from pad_pipeline.train.data.sample_sources import as_sources, read_samples
from pad_pipeline.train.data.samples import TrainingSample

logger = logging.getLogger(__name__)

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
        pa.field("source", pa.int16(), nullable=False),
    ]
)
_ROWS_PER_BATCH = 1024


class TrainingSamples:
    """The samples of a run by number; mapped from the file that `write_samples` wrote."""

    def __init__(self, path: str | Path) -> None:
        """Map the Arrow file at `path` (local)."""
        table = pa.ipc.open_file(pa.memory_map(str(path))).read_all()
        self._columns = {name: table[name] for name in table.column_names}
        self.lengths = table["length"].to_numpy().astype(np.int64)
        """(N,) words per sample, negative without an image."""
        one = np.zeros(len(self.lengths), np.int64)  # of a run that an older release began
        known = "source" in self._columns
        self.sources = table["source"].to_numpy().astype(np.int64) if known else one
        """(N,) which of the run's sources each sample is from."""

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
    source: str | Sequence[str],
    images: str | None,
    stage: TrainingStage,
    path: Path,
    *,
    max_bad_share: float = 1.0,
    regions: str | None = None,
    review: ReviewChoice | None = None,
) -> tuple[int, LeftOutSamples]:
    """Write the samples of `source` to `path`; returns their number and what was left out.

    `source` (or several, one behind another) and `images` are those of `read_samples`. Raises
    `UserError` where a source has nothing to train on, or more of it cannot be trained on as it is
    written than `max_bad_share`. `regions` is a data set whose regions samples of conversations
    get, by the ids of their images. `review` says which marks on data sets count.
    """
    join = RegionJoin(regions, review) if regions is not None else None
    all_left_out, total = LeftOutSamples(), 0
    with pa.OSFile(str(path), "wb") as file, pa.ipc.new_file(file, _SCHEMA) as writer:
        for place, each in enumerate(as_sources(source)):
            left_out, number = LeftOutSamples(), 0
            samples = read_samples(each, images, stage, left_out, review)
            if join is not None:
                samples = join.add(samples)
            while rows := list(islice(samples, _ROWS_PER_BATCH)):
                writer.write_batch(_to_batch(rows, place))
                number += len(rows)
            left_out.check(each, number, max_bad_share)
            if not number:
                raise _nothing_to_train_on(each, stage, left_out)
            all_left_out.update(left_out)
            total += number
    if join is not None:
        logger.info(join.describe())
    return total, all_left_out


def _nothing_to_train_on(source: str, stage: TrainingStage, left_out: LeftOutSamples) -> UserError:
    why = "; ".join(left_out.lines()) or "it is empty"
    if reads_conversations(stage):
        return UserError(f"{source} has no sample to train on: {why}")
    return UserError(
        f"{source} has no sample to train on: {why}. Stage 1 needs images with captions: "
        "annotate with ",
        Setting("captions"),
        ", or give LLaVA's JSON",
    )


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


def _to_batch(samples: list[TrainingSample], source: int) -> pa.RecordBatch:
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
            "source": source,
        }
        for sample in samples
    ]
    return pa.RecordBatch.from_pylist(rows, schema=_SCHEMA)
