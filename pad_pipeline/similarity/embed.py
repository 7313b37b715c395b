"""Makes the embeddings of a data set: shard by shard, then what is searched and shown of them."""

from __future__ import annotations

import logging
import time
from collections import Counter
from dataclasses import dataclass, field
from typing import TYPE_CHECKING, Any

from pad_pipeline import storage
from pad_pipeline.dataset.reader import Dataset, open_dataset
from pad_pipeline.dataset.record_images import UNREADABLE
from pad_pipeline.dataset.writer import write_table
from pad_pipeline.errors import Setting, UserError
from pad_pipeline.models import references, registry
from pad_pipeline.similarity import store
from pad_pipeline.similarity.config import EmbedConfig
from pad_pipeline.similarity.derive import derive
from pad_pipeline.similarity.shards import embed_shard
from pad_pipeline.storage.locks import only_run_on

if TYPE_CHECKING:
    from pad_pipeline.models.embedding.embedder import PatchEmbedder

logger = logging.getLogger(__name__)

_ROWS_PER_GROUP = 256
"""Few enough to be read for the vector of a single image."""


@dataclass(frozen=True, slots=True)
class EmbedReport:
    """What `embed` made; `left_out` counts the images without an embedding by reason."""

    folder: str
    model: str
    num_images: int
    num_regions: int
    num_shards_kept: int
    num_pairs: int
    map_kind: str
    left_out: dict[str, int] = field(default_factory=dict)


def embed(
    url: str,
    images: str | None = None,
    config: EmbedConfig | None = None,
    *,
    device: str = "auto",
    dtype: str = "auto",
) -> EmbedReport:
    """Embeds the images and regions of a finished data set into the folder beside it.

    Shards whose embeddings are there already, of the same shard and model, are kept, so that the
    same call goes on after one that was killed. `images` is where the images are now. Raises
    `UserError` where the data set is unfinished, the folder holds another model's embeddings, or
    not one image of a shard can be read.
    """
    config = config or EmbedConfig()
    dataset = open_dataset(url)
    if dataset.state == "running":
        raise UserError(f"{url} is not finished: run its annotate command again, then embed")
    model = config.model or _tagger_of(dataset)
    folder = store.folder_of(dataset.url)
    with only_run_on(folder):
        before = store.read_manifest(folder)
        same = {"checksum": references.fingerprint(model, "tagger"), "regions": config.regions}
        _check_same(before, same, folder, model)
        shards = store.shard_digests(dataset)
        facts = {"model": model, **same, "shards": shards}
        store.write_manifest(folder, {"state": "running", **facts})
        _remove_others(folder, shards)
        counts = _embed_shards(dataset, folder, images, config, facts, (device, dtype))
        num_kept = counts.pop("kept")
        totals = {name: counts.pop(name) for name in ("images", "regions")}
        derived = derive(folder, dataset, config)
        store.write_manifest(
            folder,
            {
                "state": "finished", **facts, "num_images": totals["images"],
                "num_regions": totals["regions"], "duplicates_from": config.duplicates_from,
                "map": derived.map_kind,
            },
        )  # fmt: skip
    left_out = {reason: count for reason, count in counts.most_common() if count}
    return EmbedReport(
        folder, model, totals["images"], totals["regions"], num_kept, derived.num_pairs,
        derived.map_kind, left_out,
    )  # fmt: skip


def _tagger_of(dataset: Dataset) -> str:
    models = dataset.manifest.get("models")
    tagger = models.get("tag") if isinstance(models, dict) else None
    if not isinstance(tagger, dict) or not isinstance(tagger.get("model"), str):
        raise UserError(
            f"the manifest of {dataset.url} names no tagger, whose features would be taken: give ",
            Setting("embed.model"),
            ", for example openai/clip-vit-base-patch32",
        )
    return tagger["model"]


def _check_same(before: dict[str, Any], same: dict[str, Any], folder: str, model: str) -> None:
    if not before or all(before.get(name) == value for name, value in same.items()):
        return
    what = "another model's" if before.get("checksum") != same["checksum"] else "other"
    raise UserError(
        f"{folder} holds {what} embeddings ({before.get('model')}, "
        f"{'with' if before.get('regions') else 'without'} regions), not those of {model} that "
        "are asked for: remove the folder to make them anew, or ask for the same"
    )


def _remove_others(folder: str, shards: dict[str, str]) -> None:
    """Embeddings of shards that the data set has no more."""
    for name in set(storage.list_files(folder, ".parquet")) - set(shards):
        if not name.startswith("_"):
            storage.remove(storage.join(folder, name))


def _embed_shards(
    dataset: Dataset,
    folder: str,
    images: str | None,
    config: EmbedConfig,
    facts: dict[str, Any],
    place: tuple[str, str],
) -> Counter[str]:
    """Embeds the shards that have no embeddings yet; counts images, regions and what is left out.

    A shard of which some images could not be read is embedded again.
    """
    counts: Counter[str] = Counter(images=0, regions=0, kept=0)
    embedder: PatchEmbedder | None = None
    began, num_done = time.monotonic(), 0
    for number, shard in enumerate(dataset.shards, 1):
        url = storage.join(folder, shard.name)
        own = {name: facts[name] for name in ("checksum", "regions")}
        own["sha256"] = facts["shards"][shard.name]
        found = store.facts_of(url)
        made = found.pop("counts", {})
        if found == own and not made.get(UNREADABLE):
            counts.update({"kept": 1, **made})
            continue
        if embedder is None:
            embedder = registry.load_embedder(facts["model"], _runtime(*place))
        table, of_shard = embed_shard(dataset, shard, embedder, images, config)
        facts_of_shard = {**own, "counts": dict(of_shard)}
        write_table(url, store.with_facts(table, facts_of_shard), _ROWS_PER_GROUP)
        counts.update(of_shard)
        num_done += shard.num_rows
        rate = num_done / (time.monotonic() - began)
        logger.info("embedded %d of %d shards, %.1f images/s", number, len(dataset.shards), rate)
    return counts


def _runtime(device: str, dtype: str) -> Any:
    import torch

    from pad_pipeline.models.base import Runtime

    if device == "auto":
        device = "cuda" if torch.cuda.is_available() else "cpu"
    if dtype == "auto":
        dtype = "bfloat16" if device == "cuda" else "float32"
    return Runtime(device=device, dtype=dtype)
