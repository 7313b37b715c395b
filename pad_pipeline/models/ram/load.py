"""RAM and RAM++ as self-contained model directories: reading and writing them."""

from __future__ import annotations

import json
from pathlib import Path

from safetensors.torch import save_file

from pad_pipeline.models.base import Runtime, prepare
from pad_pipeline.models.checkpoints import read_checkpoint
from pad_pipeline.models.ram.config import config_to_json, read_config
from pad_pipeline.models.ram.network import RecognizeAnything
from pad_pipeline.models.ram.state_dict import build_ram
from pad_pipeline.models.ram.tagger import RamTagger
from pad_pipeline.storage.atomic import write_local


def load_ram(directory: str | Path, runtime: Runtime | None = None) -> RamTagger:
    """The tagger of a directory that `save_ram` wrote; raises `UserError` where it is not one."""
    runtime = runtime or Runtime()
    prepare(runtime)
    weights = Path(directory) / "model.safetensors"
    config = read_config(Path(directory))
    state = read_checkpoint(weights)
    model = build_ram(config, state, source=str(weights), dtype=runtime.torch_dtype)
    return RamTagger(model, runtime)


def save_ram(model: RecognizeAnything, directory: str | Path) -> None:
    """Write `model` as a directory that `load_ram` reads, weights in the type that they have."""
    directory = Path(directory)
    directory.mkdir(parents=True, exist_ok=True)
    # clones: query, key and value of a converted checkpoint are views of one tensor
    state = {name: tensor.cpu().clone() for name, tensor in model.state_dict().items()}
    config = json.dumps(config_to_json(model.config), indent=1, ensure_ascii=False) + "\n"
    weights_file, config_file = directory / "model.safetensors", directory / "config.json"
    # The configuration comes last and is moved into place, so that what has one is whole.
    config_file.unlink(missing_ok=True)
    save_file(state, weights_file, metadata={"format": "pt"})
    write_local(config_file, config.encode())
