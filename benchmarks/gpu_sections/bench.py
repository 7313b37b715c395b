"""What every section is given, how a row is timed, and how a row that fails is told."""

from __future__ import annotations

import gc
import sys
import time
import traceback
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import torch

from pad_pipeline.models.base import Runtime

Row = dict[str, Any]
"""The figures of one line of the results, as plain JSON values."""

Rows = Iterator[tuple[str, Callable[[], Row]]]
"""What a section yields: the name of each row and the work that gives its figures."""


class NotThere(Exception):
    """The lever that a row is about does not exist here; the message says what is missing."""


@dataclass(frozen=True, kw_only=True)
class Bench:
    """How to measure: where, in which type, for how long, and where the models lie."""

    device: str = "cuda"
    dtype: str = "bfloat16"
    tiny: bool = False
    """The embedded models and small shapes, to see on a CPU that every section works."""
    seconds: float = 5.0
    """Least time that the rate of a row is taken over."""
    threads: int = 8
    """Threads that decode."""
    models: Path = Path("models")
    """The folder of `weights.write_models`."""
    found: tuple[Row, ...] = ()
    """The rows of the sections before this one."""

    @property
    def runtime(self) -> Runtime:
        """Where the models run."""
        return Runtime(self.device, self.dtype)

    @property
    def torch_dtype(self) -> torch.dtype:
        """The type of tensors that stand for activations."""
        return self.runtime.torch_dtype

    @property
    def on_gpu(self) -> bool:
        """Whether this measures a GPU."""
        return torch.device(self.device).type == "cuda"

    def synchronise(self) -> None:
        """Wait for the GPU."""
        if self.on_gpu:
            torch.cuda.synchronize()

    def free(self) -> None:
        """Give back what the last row held."""
        gc.collect()
        if "torch._dynamo" in sys.modules:
            torch.compiler.reset()
        if self.on_gpu:
            torch.cuda.empty_cache()
            torch.cuda.reset_peak_memory_stats()

    def memory(self) -> Row:
        """GiB on the GPU at the peak: tensors, and all that the allocator held."""
        if not self.on_gpu:
            return {}
        return {
            "peak_gib": round(torch.cuda.max_memory_allocated() / 2**30, 2),
            "peak_reserved_gib": round(torch.cuda.max_memory_reserved() / 2**30, 2),
        }

    def rate(
        self, step: Callable[[], object], images: int, warm_up: Callable[[], object] | None = None
    ) -> Row:
        """Images per second of a step, after another or `warm_up`, and the peak memory."""
        began = time.perf_counter()
        (warm_up or step)()
        self.synchronise()
        warm_up_s = time.perf_counter() - began
        if self.on_gpu:
            torch.cuda.reset_peak_memory_stats()
        count, began = 0, time.perf_counter()
        while not count or time.perf_counter() - began < self.seconds:
            step()
            count += 1
        self.synchronise()
        spent = time.perf_counter() - began
        return {
            "images_per_s": round(count * images / spent, 2),
            "images": count * images,
            "warm_up_s": round(warm_up_s, 2),
            **self.memory(),
        }

    def milliseconds(self, call: Callable[[], object]) -> float:
        """Of one call, over a tenth of a row's time after two calls that are not measured."""
        for _ in range(2):
            call()
        self.synchronise()
        count, began = 0, time.perf_counter()
        while count < 3 or time.perf_counter() - began < self.seconds / 10:
            call()
            count += 1
            if count % 10 == 0:  # so that the clock is the GPU's and not that of its queue
                self.synchronise()
        self.synchronise()
        return 1000 * (time.perf_counter() - began) / count


def attempt(name: str, work: Callable[[], Row]) -> Row:
    """The row, or why there is none: a lever that is not there, or the error in full.

    One row's error does not end its section: the machine is borrowed, the others count as well.
    """
    try:
        return {"row": name, **work()}
    except NotThere as reason:
        return {"row": name, "not_there": str(reason)}
    except Exception as error:
        where = traceback.format_exc(limit=-4)
        return {"row": name, "error": f"{type(error).__name__}: {error}", "traceback": where}


def relative_error(found: torch.Tensor, reference: torch.Tensor) -> float:
    """‖found − reference‖ / ‖reference‖, in float64."""
    reference = reference.double()
    return float((found.double() - reference).norm() / reference.norm())


def rounded(value: float) -> float:
    """Three significant digits."""
    return float(f"{value:.3g}")
