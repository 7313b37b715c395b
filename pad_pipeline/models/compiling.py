"""torch.compile by blocks: the layers that a model repeats are compiled, not the whole.

A compiler's time grows faster than a graph, and layers of one shape share what is compiled for
them: the 32 layers of SAM's ViT-H are two graphs, one for windows and one for whole images.
"""

from __future__ import annotations

import os
from collections.abc import Iterable
from pathlib import Path
from typing import Any

import torch
from torch import nn

VARIANTS = 64
"""Graphs that one kind of block may have: of stages, shifts and batch sizes. torch allows 8, and
runs what comes after them uncompiled."""


def compile_blocks(blocks: Iterable[nn.Module], backend: str | Any = "inductor") -> None:
    """Compile each block at its first call, for every shape of its input anew.

    What was compiled is kept in `use_cache_folder`'s folder.
    """
    use_cache_folder()
    torch._dynamo.config.recompile_limit = max(torch._dynamo.config.recompile_limit, VARIANTS)
    for block in blocks:
        block.compile(dynamic=False, backend=backend)


def use_cache_folder() -> None:
    """Keep what is compiled between runs, unless `TORCHINDUCTOR_CACHE_DIR` says where already.

    torch's own place is in the folder for temporary files, which restarts empty.
    """
    os.environ.setdefault("TORCHINDUCTOR_CACHE_DIR", str(Path.home() / ".cache/pad-pipeline/torch"))
