"""The commands `embed` and `duplicates`."""

from __future__ import annotations

from typing import Literal

from pad_pipeline.cli.options import DataSet, Images
from pad_pipeline.similarity.config import EmbedConfig


def embed(
    dataset: DataSet,
    embed: EmbedConfig,
    images: Images = None,
    device: Literal["auto", "cpu", "cuda"] = "auto",
    dtype: Literal["auto", "float32", "bfloat16", "float16"] = "auto",
) -> None:
    """Embed images and regions: for duplicates, look-alikes, a map.

    Writes the folder DATASET.embeddings, from which `duplicates`, `view` and `export --split`
    read. A command that was interrupted goes on where it stood when it is given again.

    Args:
        device: Where the model runs; `auto` takes the GPU where there is one.
        dtype: dtype of the model; `auto` is bfloat16 on a GPU and float32 on a CPU.
    """
    from pad_pipeline.cli.reports.similarity import print_embedding
    from pad_pipeline.similarity.embed import embed as run

    print_embedding(dataset, run(dataset, images, embed, device=device, dtype=dtype))


def duplicates(
    dataset: DataSet,
    min_similarity: float | None = None,
    json: str | None = None,
) -> None:
    """List the near-duplicates that `embed` found.

    Args:
        min_similarity: Cosine similarity from which images are near-duplicates, at least that
            with which they were embedded, which it is by default.
        json: Write all groups to this file too; the terminal shows the largest.
    """
    from pad_pipeline.cli.reports.similarity import print_duplicates
    from pad_pipeline.dataset.reader import open_dataset
    from pad_pipeline.similarity.duplicates import read_groups
    from pad_pipeline.similarity.store import require_embeddings

    groups = read_groups(require_embeddings(open_dataset(dataset)), min_similarity)
    print_duplicates(groups, json=json)
