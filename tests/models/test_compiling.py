"""Models are compiled by blocks, and blocks of one shape share what is compiled."""

from __future__ import annotations

import os
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from torch._dynamo.testing import CompileCounter

from pad_pipeline.models.base import Runtime
from pad_pipeline.models.compiling import compile_blocks, use_cache_folder
from pad_pipeline.models.registry import load_segmenter, load_tagger
from pad_pipeline.models.sam.load import repeated_blocks
from pad_pipeline.scenes.generator import generate_scene


@pytest.fixture(autouse=True)
def compiled_anew() -> None:
    torch._dynamo.reset()


def test_the_layers_of_sam_are_two_graphs_for_each_batch_size(counter: CompileCounter) -> None:
    segmenter: Any = load_segmenter("embedded", Runtime())
    blocks = repeated_blocks(segmenter.model.vision_encoder)
    images = [generate_scene(seed).image for seed in range(2)]
    boxes = [np.array([[30, 30, 150, 150]], np.float32)] * 2
    plain = segmenter.segment(images, boxes)
    compile_blocks(blocks, backend=counter)
    assert len(blocks) == 5
    assert segmenter.segment(images, boxes) == plain
    assert counter.frame_count == 2
    segmenter.segment(images[:1], boxes[:1])
    assert counter.frame_count == 4
    segmenter.segment(images, boxes)
    assert counter.frame_count == 4


def test_the_blocks_of_ram_are_a_graph_for_each_stage_and_shift(
    counter: CompileCounter, monkeypatch: pytest.MonkeyPatch
) -> None:
    given: list[Any] = []
    monkeypatch.setattr(
        "pad_pipeline.models.ram.tagger.compile_blocks", lambda blocks: given.extend(blocks)
    )
    tagger: Any = load_tagger("embedded", Runtime(compile=True))
    images = [generate_scene(seed).image for seed in range(2)]
    plain = tagger.score(images)
    compile_blocks(given, backend=counter)
    np.testing.assert_array_equal(tagger.score(images), plain)
    kinds = {(block.input_resolution, bool(block.shift_size)) for block in given}
    assert counter.frame_count == len(kinds) < len(given)


def test_what_is_compiled_is_kept_where_restarts_leave_it(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.delenv("TORCHINDUCTOR_CACHE_DIR", raising=False)
    use_cache_folder()
    assert os.environ["TORCHINDUCTOR_CACHE_DIR"].startswith(str(Path.home()))
    monkeypatch.setenv("TORCHINDUCTOR_CACHE_DIR", "elsewhere")
    use_cache_folder()
    assert os.environ["TORCHINDUCTOR_CACHE_DIR"] == "elsewhere"


@pytest.fixture
def counter(monkeypatch: pytest.MonkeyPatch) -> Iterator[CompileCounter]:
    """A compiler that runs what it is given and counts."""
    monkeypatch.setenv("TORCHINDUCTOR_CACHE_DIR", "unused")
    with torch._dynamo.config.patch(recompile_limit=8):
        yield CompileCounter()
