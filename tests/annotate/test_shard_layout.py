"""How images are cut into shards and chunks."""

from __future__ import annotations

import numpy as np

from pad_pipeline.annotate.shard_layout import ShardLayout


def test_layout_covers_every_image_once() -> None:
    layout = ShardLayout(num_images=21, rows_per_shard=8, chunk_size=2)
    chunks = [chunk for shard in range(layout.num_shards) for chunk in layout.chunks_of(shard)]
    assert chunks == list(range(11))
    assert [layout.shard_of(chunk) for chunk in chunks] == list(np.repeat([0, 1, 2], [4, 4, 3]))
    assert sum(layout.shard_rows(shard) for shard in range(3)) == 21
    big = ShardLayout(num_images=10**9, rows_per_shard=2048, chunk_size=32)
    assert big.shard_name(3) == "pad-000003.parquet"
