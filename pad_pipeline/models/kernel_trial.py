"""One trial of each Triton kernel in a process: whether a GPU and its compilers can run it."""

from __future__ import annotations

import logging
from collections.abc import Callable, Hashable

import torch

from pad_pipeline.errors import first_line

logger = logging.getLogger(__name__)

_works: dict[Hashable, bool] = {}
"""What `try_kernel` has found in this process."""


def try_kernel(key: Hashable, trial: Callable[[], bool], *, without: str) -> bool:
    """Whether `trial` runs and returns true; tried once in a process for each `key`.

    A trial runs the kernel on a small input and compares what comes out. Where that fails, a
    warning says so, beginning with `without`, such as "SAM runs without its Triton kernels".
    """
    if key not in _works:
        try:
            _works[key] = trial()
            problem = "" if _works[key] else "their results differ from torch's on this GPU"
        except torch.OutOfMemoryError:
            raise
        except Exception as error:  # Triton's own, its compiler's, the C compiler's, the loader's
            _works[key] = False
            problem = (
                f"{first_line(error)} (the usual cause is a missing C compiler or missing Python "
                "headers)"
            )
        if problem:
            logger.warning("%s, which makes it slower: %s", without, problem)
    return _works[key]


def kernel_works(key: Hashable) -> bool:
    """Whether the kernel was tried in this process and passed."""
    return _works.get(key, False)
