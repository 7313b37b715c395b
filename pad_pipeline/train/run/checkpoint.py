"""Checkpoints of a run: one file per step that is there whole or not at all; the last and the best.

RUN/checkpoints/step-00000200.pt     trained weights, optimiser, step, random state, measures
"""

from __future__ import annotations

import io
import logging
import pickle
import random
import re
import tempfile
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
import torch

from pad_pipeline import storage
from pad_pipeline.errors import UserError

logger = logging.getLogger(__name__)

_NAME = re.compile(r"step-(\d{8})\.pt")
_FORMAT = 1


@dataclass(frozen=True, slots=True)
class Checkpoints:
    """The checkpoints of one run."""

    run: str

    @property
    def folder(self) -> str:
        """Where they lie."""
        return storage.join(self.run, "checkpoints")

    def steps(self) -> list[int]:
        """Steps that have a checkpoint, in order."""
        names = storage.list_files(self.folder, ".pt")
        return sorted(int(found[1]) for name in names if (found := _NAME.fullmatch(name)))

    def url(self, step: int) -> str:
        """Where the checkpoint of a step lies."""
        return storage.join(self.folder, f"step-{step:08d}.pt")

    def save(self, step: int, state: dict[str, Any], *, best_step: int | None) -> None:
        """Write `state` as the checkpoint of `step`; then only it and the best one are kept."""
        content = {"format": _FORMAT, "step": step, **state}
        if storage.local_path(self.run) is None:
            with tempfile.TemporaryDirectory() as folder:
                path = Path(folder, "state.pt")
                torch.save(content, path)
                storage.upload(path, self.url(step))
        else:
            buffer = io.BytesIO()
            torch.save(content, buffer)
            storage.write_atomic(self.url(step), buffer.getvalue())
        for old in self.steps():
            if old not in (step, best_step):
                storage.remove(self.url(old))

    def load(self, step: int) -> dict[str, Any]:
        """The state of a step's checkpoint; `UserError` where it cannot be read."""
        url = self.url(step)
        try:
            with _fetched(url) as path:
                state = torch.load(path, map_location="cpu", weights_only=True)
        except (RuntimeError, EOFError, KeyError, ValueError, pickle.UnpicklingError) as error:
            reason = (str(error).strip() or type(error).__name__).splitlines()[0]
            raise UserError(f"the checkpoint {url} is damaged ({reason}); delete it") from error
        if state.get("format") != _FORMAT:
            raise UserError(f"the checkpoint {url} was written by another release of pad-pipeline")
        return state

    def load_last(self) -> dict[str, Any] | None:
        """The state of the last step that has a checkpoint; None where none has."""
        steps = self.steps()
        return self.load(steps[-1]) if steps else None


@contextmanager
def _fetched(url: str) -> Iterator[Path]:
    """The file on this machine, for as long as the block lasts where it is remote."""
    path = storage.local_path(url)
    if path is not None:
        with storage.user_errors(url, "read"):
            yield path
        return
    with tempfile.TemporaryDirectory() as folder:
        path = Path(folder, "state.pt")
        storage.download(url, path)
        yield path


def random_state() -> dict[str, Any]:
    """The state of all random number generators that a step may use."""
    kind, keys, position, has_gauss, gauss = np.random.get_state()
    return {
        "torch": torch.get_rng_state(),
        "cuda": torch.cuda.get_rng_state_all() if torch.cuda.is_available() else [],
        "numpy": [kind, torch.from_numpy(np.asarray(keys)), position, has_gauss, gauss],
        "python": list(random.getstate()[1]),
    }


def restore_random_state(state: dict[str, Any]) -> None:
    """Take up the generators where `random_state` found them."""
    torch.set_rng_state(state["torch"])
    if state["cuda"] and torch.cuda.device_count() == len(state["cuda"]):
        torch.cuda.set_rng_state_all(state["cuda"])
    kind, keys, position, has_gauss, gauss = state["numpy"]
    np.random.set_state((kind, keys.numpy(), position, has_gauss, gauss))
    random.setstate((3, tuple(state["python"]), None))
