"""Weights that would run code when unpickled: every loader refuses them, and nothing has run."""

from __future__ import annotations

import ast
import json
import os
import pickle
import re
import shutil
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch

import pad_pipeline
from pad_pipeline.errors import UserError
from pad_pipeline.models.checkpoints import read_checkpoint
from pad_pipeline.models.convert import convert
from pad_pipeline.models.references import EMBEDDED_WEIGHTS
from pad_pipeline.models.registry import load_tagger
from pad_pipeline.train.model.projector_files import load_projector
from pad_pipeline.train.run.checkpoint import Checkpoints

PACKAGE = Path(pad_pipeline.__file__).parent
TOOLS = PACKAGE.parent / "tools"


class Payload:
    """Writes a file when it is unpickled."""

    def __init__(self, marker: Path) -> None:
        self.marker = marker

    def __reduce__(self) -> tuple[Any, ...]:
        return os.system, (f"touch {self.marker}",)


def _pth(folder: Path, content: Any) -> Path:
    torch.save(content, folder / "x.pth")
    return folder / "x.pth"


def _directory(folder: Path, content: Any, part: str, name: str) -> Path:
    """An embedded model whose weights are such a file instead."""
    directory = folder / part
    shutil.copytree(EMBEDDED_WEIGHTS / part, directory)
    (directory / "model.safetensors").unlink()
    torch.save(content, directory / name)
    return directory


def _tagger(folder: Path, content: Any) -> None:
    from pad_pipeline.models.base import Runtime

    load_tagger(_directory(folder, content, "tagger", "pytorch_model.bin"), Runtime())


def _detector(folder: Path, content: Any) -> None:
    from pad_pipeline.models.base import Runtime
    from pad_pipeline.models.registry import load_detector

    load_detector(_directory(folder, content, "detector", "pytorch_model.bin"), Runtime())


def _segmenter(folder: Path, content: Any) -> None:
    from pad_pipeline.models.base import Runtime
    from pad_pipeline.models.registry import load_segmenter

    load_segmenter(_directory(folder, content, "segmenter", "pytorch_model.bin"), Runtime())


def _segmenter_file(folder: Path, content: Any) -> None:
    from pad_pipeline.models.base import Runtime
    from pad_pipeline.models.registry import load_segmenter

    load_segmenter(_pth(folder, content), Runtime())


def _vision(folder: Path, content: Any) -> None:
    from pad_pipeline.train.model.load import load_model

    directory = _directory(folder, content, "vision", "pytorch_model.bin")
    load_model(directory, EMBEDDED_WEIGHTS / "language")


def _language(folder: Path, content: Any) -> None:
    from pad_pipeline.train.model.load import load_model

    directory = _directory(folder, content, "language", "pytorch_model.bin")
    load_model(EMBEDDED_WEIGHTS / "vision", directory)


def _projector(folder: Path, content: Any) -> None:
    from transformers import CLIPVisionConfig

    torch.save(content, folder / "mm_projector.bin")
    load_projector(folder, vision_config=CLIPVisionConfig(), llm_width=64)


def _training(folder: Path, content: Any) -> None:
    (folder / "checkpoints").mkdir()
    torch.save(content, folder / "checkpoints" / "step-00000007.pt")
    Checkpoints(str(folder)).load_last()


LOADERS: dict[str, Callable[[Path, Any], None]] = {
    "checkpoint": lambda folder, content: read_checkpoint(_pth(folder, content)) and None,
    "convert sam": lambda f, c: convert("sam", _pth(f, c), f / "out") and None,
    "segmenter file": _segmenter_file,
    "tagger": _tagger,
    "detector": _detector,
    "segmenter": _segmenter,
    "vision": _vision,
    "language": _language,
    "projector": _projector,
    "training": _training,
}


@pytest.mark.parametrize("loader", list(LOADERS))
@pytest.mark.parametrize("legacy", [False, True])
def test_a_pickle_with_code_is_refused_and_has_not_run(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, loader: str, legacy: bool
) -> None:
    marker = tmp_path / "executed"
    content = {"a.weight": torch.ones(2), "model": Payload(marker)}
    if legacy:
        save = torch.save
        monkeypatch.setattr(
            torch, "save", lambda *a: save(*a, _use_new_zipfile_serialization=False)
        )
    with pytest.raises(UserError) as caught:
        LOADERS[loader](tmp_path, content)
    assert not marker.exists()
    # The payload does what this test believes that it does.
    pickle.loads(pickle.dumps(content["model"]))
    assert marker.exists()
    assert "\n" not in str(caught.value)


def test_every_load_in_the_package_is_told_to_take_tensors_only() -> None:
    """torch.load with weights_only=True written out, np.load without pickles, no remote code."""
    loads = 0
    for path in (*PACKAGE.rglob("*.py"), *TOOLS.rglob("*.py")):
        text = path.read_text(encoding="utf-8")
        if not re.search(r"load|pickle|trust_remote_code", text):
            continue
        for node in ast.walk(ast.parse(text)):
            if not isinstance(node, ast.Call):
                continue
            called = ast.unparse(node.func)
            given = {word.arg: ast.unparse(word.value) for word in node.keywords}
            assert given.get("allow_pickle", "False") == "False", path
            assert given.get("trust_remote_code", "False") == "False", path
            if called == "torch.load":
                loads += 1
                assert given.get("weights_only") == "True", f"{path}:{node.lineno}"
            # Our own objects between our own workers; nothing that came from a file.
            if called in ("pickle.load", "pickle.loads", "cloudpickle.loads"):
                assert path == PACKAGE / "engine/messages.py", f"{path}:{node.lineno}"
    assert loads >= 4


def test_arrays_of_objects_are_not_unpickled(tmp_path: Path) -> None:
    marker = tmp_path / "executed"
    np.savez(tmp_path / "x.npz", a=np.array([Payload(marker)], dtype=object))
    with pytest.raises(ValueError, match="pickle"):
        np.load(tmp_path / "x.npz")["a"]
    assert not marker.exists()


@pytest.mark.parametrize("header", [2**63, 2**40, 10**6, 0])
def test_safetensors_headers_that_lie(tmp_path: Path, header: int) -> None:
    text = json.dumps({"a": {"dtype": "F32", "shape": [1 << 40], "data_offsets": [0, 1 << 42]}})
    (tmp_path / "x.safetensors").write_bytes(header.to_bytes(8, "little") + text.encode())
    with pytest.raises(UserError, match="cannot be read as a checkpoint"):
        read_checkpoint(tmp_path / "x.safetensors")
