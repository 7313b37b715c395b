"""VQ models by name: embedded, a directory, a hub id, a file of taming-transformers."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import torch
from safetensors.torch import save_file
from torch import Tensor

from pad_pipeline.errors import UserError
from pad_pipeline.models.base import Runtime, load_strictly, prepare
from pad_pipeline.models.checkpoints import read_checkpoint
from pad_pipeline.models.pretrained import load_pretrained, read_config
from pad_pipeline.models.references import local_path
from pad_pipeline.models.vq.codebook import VqNetwork
from pad_pipeline.models.vq.codecs import TRANSFORMERS, DiffusersCodec, NetworkCodec
from pad_pipeline.models.vq.coder import Codec, ImageCoder
from pad_pipeline.models.vq.patch_vq import PatchVq, PatchVqConfig
from pad_pipeline.models.vq.state_dict import infer_config, without_losses
from pad_pipeline.models.vq.vqgan import Vqgan, VqganConfig

NETWORKS: dict[str, tuple[type[VqNetwork], Any]] = {
    "vqgan": (Vqgan, VqganConfig),
    "patch_vq": (PatchVq, PatchVqConfig),
}
"""The project's own networks and their configs, by `model_type` of config.json."""


def load_image_coder(reference: str | Path, runtime: Runtime) -> ImageCoder:
    """The VQ model of a hub id, directory, checkpoint, models folder or "embedded".

    A directory is one of transformers (VQ models of Chameleon, Janus and Emu3, FLAVA's codebook),
    of diffusers (`VQModel`) or of `save_vq_network`; a file is a VQGAN of taming-transformers.
    Raises `UserError` where there is no such model or its weights do not fit, naming the first
    keys that differ.
    """
    prepare(runtime)
    place = local_path(reference, "vq")
    return ImageCoder(_open(place), runtime, str(reference))


def load_vq_network(reference: str | Path) -> VqNetwork:
    """The network of a model of this project, in float32 on the CPU, for who needs its latents.

    Raises `UserError` as `load_image_coder` does, and where the model is another library's.
    """
    codec = _open(local_path(reference, "vq"))
    if not isinstance(codec, NetworkCodec):
        raise UserError(
            f"{reference} is a {type(codec).__name__.removesuffix('Codec')} model; expected "
            "`embedded`, or a checkpoint of taming-transformers"
        )
    return codec.model


def save_vq_network(model: VqNetwork, directory: Path, dtype: torch.dtype = torch.float32) -> None:
    """Write config.json and model.safetensors into a new directory."""
    directory.mkdir(parents=True, exist_ok=True)
    [kind] = [name for name, (network, _) in NETWORKS.items() if type(model) is network]
    config = {"model_type": kind, **model.config.to_dict()}
    (directory / "config.json").write_text(json.dumps(config, indent=2) + "\n", encoding="utf-8")
    state = {name: tensor.to(dtype).contiguous() for name, tensor in model.state_dict().items()}
    save_file(state, directory / "model.safetensors")


def _open(place: Path) -> Codec:
    if place.is_file():
        state = without_losses(read_checkpoint(place))
        return NetworkCodec(_filled(Vqgan(infer_config(state, str(place))), state, str(place)))
    config = read_config(place)
    kind, class_name = config.get("model_type"), config.get("_class_name")
    if kind in NETWORKS:
        network, config_class = NETWORKS[kind]
        try:
            model = network(config_class.from_dict(config))
        except (KeyError, TypeError, ValueError) as error:
            raise UserError(
                f"{place / 'config.json'} does not give the sizes of a {kind} model ({error}); "
                "write the directory again"
            ) from error
        state = read_checkpoint(place / "model.safetensors")
        return NetworkCodec(_filled(model, state, str(place)))
    if kind in TRANSFORMERS:
        import transformers

        name, codec, sizes_of = TRANSFORMERS[kind]
        model = load_pretrained(getattr(transformers, name), place)
        return codec(model, *sizes_of(model.config))
    if class_name == "VQModel":
        return _open_diffusers(place)
    expected = ", ".join((*NETWORKS, *TRANSFORMERS, "diffusers' VQModel"))
    raise UserError(f"{place} is of type {kind or class_name!r}, no VQ model; expected {expected}")


def _filled(model: VqNetwork, state: dict[str, Tensor], source: str) -> VqNetwork:
    load_strictly(model, state, source=source)
    return model.eval().requires_grad_(False)


def _open_diffusers(place: Path) -> DiffusersCodec:
    try:
        from diffusers import VQModel
    except ImportError as error:
        raise UserError(
            f"{place} is a VQModel of diffusers, which is not installed: pip install "
            "'pad-pipeline[train]'"
        ) from error
    try:
        loaded: Any = VQModel.from_pretrained(
            str(place), output_loading_info=True, low_cpu_mem_usage=False, local_files_only=True
        )
    except (OSError, ValueError, RuntimeError) as error:
        first = (str(error).strip() or type(error).__name__).splitlines()[0]
        raise UserError(f"no VQModel could be read from {place}: {first}") from error
    model, report = loaded
    wrong = [*report["missing_keys"], *report["unexpected_keys"], *report["mismatched_keys"]]
    if wrong:
        raise UserError(f"{place} does not fit VQModel: {', '.join(map(str, wrong[:5]))}")
    factor = 2 ** (len(model.config["block_out_channels"]) - 1)
    return DiffusersCodec(model.eval(), factor, model.config["num_vq_embeddings"])
