"""The folder of a data set's embeddings: its files, and whether they are those of this data set.

It lies beside the data set, ANNOTATIONS.embeddings, as every reader of Parquet takes the files in
a data set's folder for its shards.

pad-00000.parquet   the embeddings of the shard of that name, row by row
_pairs.parquet      pairs of images that are near-duplicates, by their rows in the whole data set
_map.parquet        the place of every image on a plane
_images.faiss       the images' embeddings, to be searched; so _regions.faiss
_manifest.json      the model, and which shards the embeddings are of
"""

from __future__ import annotations

import hashlib
import json
from collections.abc import Iterator
from dataclasses import dataclass
from typing import Any

import numpy as np
import pyarrow as pa
from numpy.typing import NDArray

from pad_pipeline import storage
from pad_pipeline.dataset.reader import Dataset
from pad_pipeline.errors import UserError
from pad_pipeline.storage.parquet import ParquetFile

FORMAT = "pad-embeddings"
PAIRS, MAP = "_pairs.parquet", "_map.parquet"
IMAGES_INDEX, REGIONS_INDEX = "_images.faiss", "_regions.faiss"
THUMBNAIL_SIDE = 8
_MANIFEST = "_manifest.json"
_FACTS = b"pad_embeddings"


@dataclass(frozen=True, slots=True)
class Embeddings:
    """Finished embeddings of a data set: their folder, and what its manifest says."""

    url: str
    manifest: dict[str, Any]

    @property
    def model(self) -> str:
        """The name of the model that made them."""
        return str(self.manifest["model"])

    @property
    def duplicates_from(self) -> float:
        """The similarity from which pairs were looked for."""
        return float(self.manifest["duplicates_from"])

    def place(self, name: str) -> str:
        """The URL of one of the folder's files."""
        return storage.join(self.url, name)


def folder_of(dataset_url: str) -> str:
    """Where the embeddings of a data set lie."""
    return dataset_url.rstrip("/") + ".embeddings"


def schema(width: int) -> pa.Schema:
    """The columns of a file of embeddings: float16 vectors of length 1.

    `embedding` is null for an image that failed or could not be read, and so is `thumbnail`, the
    image in `THUMBNAIL_SIDE` × `THUMBNAIL_SIDE` grey pixels, row by row. `regions` has one element
    for each region of the record, null where the mask is empty or the image has no embedding.
    """
    vector = pa.list_(pa.float16(), width)
    return pa.schema(
        [
            pa.field("image_id", pa.string(), nullable=False),
            pa.field("embedding", vector),
            pa.field("thumbnail", pa.list_(pa.uint8(), THUMBNAIL_SIDE**2)),
            pa.field("regions", pa.list_(vector), nullable=False),
        ]
    )


def with_facts(table: pa.Table, facts: dict[str, Any]) -> pa.Table:
    """The table of one shard with what it was made of and by, kept in the file itself."""
    return table.replace_schema_metadata({_FACTS: json.dumps(facts).encode()})


def facts_of(url: str) -> dict[str, Any]:
    """What `with_facts` left in a file, {} where there is no such file or it is damaged."""
    if not storage.exists(url):
        return {}
    try:
        with storage.open_read(url) as file:
            metadata = ParquetFile(file).schema_arrow.metadata or {}
            return json.loads(metadata.get(_FACTS, b"{}"))
    except (pa.ArrowException, OSError, ValueError):
        return {}  # it is made anew


def shard_digests(dataset: Dataset) -> dict[str, str]:
    """The SHA-256 of every shard by name: the manifest's, or that of the bytes without one."""
    stated = {one["name"]: one.get("sha256") for one in dataset.manifest.get("shards", [])}
    return {
        shard.name: stated.get(shard.name)
        or hashlib.sha256(storage.read_bytes(shard.url)).hexdigest()
        for shard in dataset.shards
    }


def write_manifest(folder: str, values: dict[str, Any]) -> None:
    """Writes the manifest of the embeddings, whole or not at all."""
    storage.write_json(storage.join(folder, _MANIFEST), {"format": FORMAT, **values})


def read_manifest(folder: str) -> dict[str, Any]:
    """The manifest of the embeddings, {} where there is none; `UserError` where it is another's."""
    url = storage.join(folder, _MANIFEST)
    if not storage.exists(url):
        return {}
    try:
        found = json.loads(storage.read_bytes(url))
    except (ValueError, RecursionError) as error:
        raise UserError(f"{url} is not valid JSON ({error}): remove {folder}") from error
    if not isinstance(found, dict) or found.get("format") != FORMAT:
        raise UserError(f"{folder} does not hold embeddings: move it to another place")
    return found


def manifest_version(folder: str) -> str:
    """A text that differs once the embeddings were made again; "" where there are none."""
    url = storage.join(folder, _MANIFEST)
    return storage.version(url) if storage.exists(url) else ""


def find_embeddings(dataset: Dataset) -> Embeddings | None:
    """The embeddings of a data set, None where it has none.

    Raises `UserError` where they are unfinished, or of other shards than the data set has now.
    """
    folder = folder_of(dataset.url)
    manifest = read_manifest(folder)
    if not manifest:
        return None
    command = f"`pad-pipeline embed {dataset.url}`"
    if manifest.get("state") != "finished":
        raise UserError(f"the embeddings in {folder} are not finished: run {command} again")
    if manifest.get("shards") != shard_digests(dataset):
        raise UserError(
            f"the embeddings in {folder} are of other shards than the data set has now: run "
            f"{command} again, which makes anew what has changed"
        )
    return Embeddings(folder, manifest)


def require_embeddings(dataset: Dataset) -> Embeddings:
    """As `find_embeddings`; raises `UserError` where the data set has none as well."""
    found = find_embeddings(dataset)
    if found is None:
        raise UserError(
            f"{dataset.url} has no embeddings: make them with `pad-pipeline embed {dataset.url}`"
        )
    return found


def read_thumbnails(folder: str, dataset: Dataset) -> NDArray[np.uint8]:
    """Those of all images that have an embedding, (N, side, side), in the order of the data set."""
    found = [np.zeros((0, THUMBNAIL_SIDE, THUMBNAIL_SIDE), np.uint8)]
    for shard in dataset.shards:
        with storage.open_read(storage.join(folder, shard.name)) as file:
            column = ParquetFile(file).read(["thumbnail"]).column(0).combine_chunks()
        values = column.drop_null().flatten().to_numpy()
        found.append(values.reshape(-1, THUMBNAIL_SIDE, THUMBNAIL_SIDE))
    return np.concatenate(found)


def width_of(folder: str, dataset: Dataset) -> int:
    """The width of the vectors; 0 without a shard."""
    for shard in dataset.shards:
        with storage.open_read(storage.join(folder, shard.name)) as file:
            return ParquetFile(file).schema_arrow.field("embedding").type.list_size
    return 0


def read_vector(
    folder: str, dataset: Dataset, row: int, region: int | None = None
) -> NDArray[np.float16] | None:
    """The embedding of the image in a row of the data set, or of one region; None without one."""
    for shard in dataset.shards:
        if row >= shard.num_rows:
            row -= shard.num_rows
            continue
        column = "embedding" if region is None else "regions"
        with storage.open_read(storage.join(folder, shard.name)) as file:
            parquet = ParquetFile(file)
            for group in range(parquet.metadata.num_row_groups):
                num_rows = parquet.metadata.row_group(group).num_rows
                if row < num_rows:
                    found = parquet.read_row_group(group, [column]).column(column)[row]
                    if region is not None:
                        found = found[region] if region < len(found) else None
                    values = found.as_py() if found is not None else None
                    return None if values is None else np.asarray(values, np.float16)
                row -= num_rows
    return None


@dataclass(frozen=True, slots=True)
class Vectors:
    """Embeddings of one shard's images or regions, float16 (N, width), and whose they are.

    `rows` are the images' places in the whole data set, `numbers` the regions' in their image.
    """

    values: NDArray[np.float16]
    rows: NDArray[np.int64]
    numbers: NDArray[np.int32]


def iter_vectors(folder: str, dataset: Dataset, *, of_regions: bool) -> Iterator[Vectors]:
    """All embeddings that there are, shard by shard in the order of the data set."""
    first = 0
    for shard in dataset.shards:
        column = "regions" if of_regions else "embedding"
        with storage.open_read(storage.join(folder, shard.name)) as file:
            found = ParquetFile(file).read([column]).column(column).combine_chunks()
        rows = np.arange(first, first + shard.num_rows)
        numbers = np.zeros(shard.num_rows, np.int32)
        if of_regions:
            counts = found.value_lengths().to_numpy()
            starts = np.cumsum(counts) - counts
            rows = np.repeat(rows, counts)
            numbers = (np.arange(len(rows)) - np.repeat(starts, counts)).astype(np.int32)
            found = found.flatten()
        there = found.is_valid().to_numpy(zero_copy_only=False)
        width = found.type.list_size
        values = found.flatten().to_numpy(zero_copy_only=False).reshape(-1, width)
        yield Vectors(values, rows[there], numbers[there])
        first += shard.num_rows
