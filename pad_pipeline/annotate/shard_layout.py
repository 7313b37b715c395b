"""How the images of a run are cut: into shards, the files, and chunks, the unit of work."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any

from pad_pipeline.dataset.writer import shard_name


@dataclass(frozen=True, slots=True, kw_only=True)
class ShardLayout:
    """How the images of a run are cut: `num_images` in shards in chunks."""

    num_images: int
    rows_per_shard: int
    chunk_size: int

    @property
    def num_shards(self) -> int:
        """Number of shards."""
        return -(-self.num_images // self.rows_per_shard)

    @property
    def chunks_per_shard(self) -> int:
        """Number of chunks of a full shard."""
        return self.rows_per_shard // self.chunk_size

    @property
    def num_chunks(self) -> int:
        """Number of chunks."""
        return -(-self.num_images // self.chunk_size)

    def chunks_of(self, shard: int) -> range:
        """The chunks of a shard, numbered through the whole run."""
        first = shard * self.chunks_per_shard
        return range(first, min(first + self.chunks_per_shard, self.num_chunks))

    def shard_of(self, chunk: int) -> int:
        """The shard that a chunk belongs to."""
        return chunk // self.chunks_per_shard

    def shard_name(self, shard: int) -> str:
        """The file name of a shard; names sort in the order of the images."""
        return shard_name(shard, self.num_shards)

    def shard_rows(self, shard: int) -> int:
        """Number of images in a shard."""
        start = shard * self.rows_per_shard
        return min(self.rows_per_shard, self.num_images - start)


def layout_of(manifest: Mapping[str, Any]) -> ShardLayout:
    """How the images of a run are cut, as its manifest says."""
    return ShardLayout(
        num_images=manifest["num_images"],
        rows_per_shard=manifest["rows_per_shard"],
        chunk_size=manifest["chunk_size"],
    )
