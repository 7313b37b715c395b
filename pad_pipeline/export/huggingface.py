"""The export to the Hugging Face hub's form: Parquet with an image column, and a data card."""

from __future__ import annotations

import io
import json
from collections import Counter, defaultdict
from typing import Any

import pyarrow as pa
import pyarrow.parquet as pq

from pad_pipeline.dataset.card import CARD, format_card
from pad_pipeline.export.chosen import Chosen
from pad_pipeline.export.image_files import EntryImage, iter_images, write_file
from pad_pipeline.records import (
    COMMON_VERSION,
    SCHEMA_VERSION,
    as_version,
    records_to_table,
)
from pad_pipeline.storage.atomic import new_folder

ROWS_PER_FILE = 500
_IMAGE = pa.struct([pa.field("bytes", pa.binary()), pa.field("path", pa.string())])


def write_hf(chosen: Chosen, dest: str) -> Counter[str]:
    """A folder for `datasets.load_dataset(DEST)`, which `push_to_hub` or an upload takes as it is.

    `data/PART-00000.parquet`, …: the columns of the data set's own shards and `image`, the bytes of
    the image, which `datasets` decodes. `README.md` is the card. Raises `UserError` where no image
    at all can be read.
    """
    counts: Counter[str] = Counter()
    waiting: dict[str, list[EntryImage]] = defaultdict(list)
    files: Counter[str] = Counter()
    rows: Counter[str] = Counter()
    version = max(COMMON_VERSION, chosen.dataset.manifest.get("schema_version", SCHEMA_VERSION))
    with new_folder(dest) as folder:

        def write(part: str) -> None:
            images = waiting.pop(part, [])
            name = f"data/{part}-{files[part]:05d}.parquet"
            write_file(folder, name, _parquet(images, version))
            files[part] += 1
            rows[part] += len(images)

        for image in iter_images(chosen, counts):
            part = image.entry.part
            waiting[part].append(image)
            if len(waiting[part]) == ROWS_PER_FILE:
                write(part)
        for part in chosen.parts:
            if waiting[part] or not files[part]:
                write(part)
        write_file(folder, CARD, _card(chosen, rows, counts["regions"]).encode("utf-8"))
    return counts


def _parquet(images: list[EntryImage], version: int) -> bytes:
    table = as_version(records_to_table([image.entry.record for image in images]), version)
    pictures = [
        {"bytes": image.data, "path": image.entry.record.image_id.rpartition("/")[2]}
        for image in images
    ]
    table = table.add_column(0, pa.field("image", _IMAGE), pa.array(pictures, _IMAGE))
    features = {name: features_of(table.schema.field(name).type) for name in table.column_names}
    features["image"] = {"_type": "Image"}
    huggingface = json.dumps({"info": {"features": features}})
    table = table.replace_schema_metadata(
        {**(table.schema.metadata or {}), "huggingface": huggingface}
    )
    sink = io.BytesIO()
    pq.write_table(table, sink, compression="zstd", row_group_size=100)
    return sink.getvalue()


def features_of(kind: pa.DataType) -> Any:
    """A type of Arrow as `datasets` writes it into a file's metadata."""
    if pa.types.is_struct(kind):
        return {field.name: features_of(field.type) for field in kind}
    if pa.types.is_fixed_size_list(kind):
        item = features_of(kind.value_type)
        return {"feature": item, "length": kind.list_size, "_type": "List"}
    if pa.types.is_list(kind):
        return {"feature": features_of(kind.value_type), "_type": "List"}
    return {"dtype": _DTYPES.get(str(kind), str(kind)), "_type": "Value"}


_DTYPES = {"float": "float32", "double": "float64"}


def _card(chosen: Chosen, rows: Counter[str], num_regions: int) -> str:
    files = {part: f"data/{part}-*.parquet" for part in chosen.parts}
    counts = {"images": sum(rows.values()), "regions": num_regions}
    if len(chosen.parts) > 1:
        counts |= {f"images in `{part}`": rows[part] for part in chosen.parts}
    notes = "`image` is the picture as it was annotated."
    return format_card(files, counts, chosen.dataset.manifest, notes)
