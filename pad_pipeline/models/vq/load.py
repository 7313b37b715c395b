"""VQ models by name: embedded, a directory, a hub id, a file of taming-transformers."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import torch
from safetensors.torch import save_file

from pad_pipeline.errors import UserError
from pad_pipeline.models.base import Runtime, load_strictly, prepare
from pad_pipeline.models.checkpoints import read_checkpoint
from pad_pipeline.models.pretrained import load_pretrained, read_config
from pad_pipeline.models.references import local_path
from pad_pipeline.models.vq.codecs import TRANSFORMERS, DiffusersCodec, VqganCodec
from pad_pipeline.models.vq.coder import Codec, ImageCoder
from pad_pipeline.models.vq.network import Vqgan, VqganConfig
from pad_pipeline.models.vq.state_dict import infer_config, without_losses

MODEL_TYPE = "vqgan"
"""What config.json of a directory that `save_vqgan` wrote calls itself."""


def load_image_coder(reference: str | Path, runtime: Runtime) -> ImageCoder:
    """The VQ model of a hub id, directory, checkpoint, models folder or "embedded".

    A directory is one of transformers (Chameleon's, Janus' and Emu3's VQ models, FLAVA's codebook),
    of diffusers (`VQModel`) or of `save_vqgan`; a file is a VQGAN of taming-transformers. Raises
    `UserError` where there is no such model or its weights do not fit, naming the first keys that
    differ.
    """
    prepare(runtime)
    place = local_path(reference, "vq")
    return ImageCoder(_open(place), runtime, str(reference))


def load_vqgan(reference: str | Path) -> Vqgan:
    """The network of a VQGAN, in float32 on the CPU, for those who need its latents.

    Raises `UserError` as `load_image_coder` does, and where the model is no VQGAN.
    """
    codec = _open(local_path(reference, "vq"))
    if not isinstance(codec, VqganCodec):
        raise UserError(
            f"{reference} is a {type(codec).__name__.removesuffix('Codec')} model; expected a "
            "VQGAN: `embedded`, or a checkpoint of taming-transformers"
        )
    return codec.model


def save_vqgan(model: Vqgan, directory: Path, dtype: torch.dtype = torch.float32) -> None:
    """Write config.json and model.safetensors into a new directory."""
    directory.mkdir(parents=True, exist_ok=True)
    config = {"model_type": MODEL_TYPE, **model.config.to_dict()}
    (directory / "config.json").write_text(json.dumps(config, indent=2) + "\n", encoding="utf-8")
    state = {name: tensor.to(dtype).contiguous() for name, tensor in model.state_dict().items()}
    save_file(state, directory / "model.safetensors")


def _open(place: Path) -> Codec:
    if place.is_file():
        state = without_losses(read_checkpoint(place))
        return VqganCodec(_build(infer_config(state, str(place)), state, str(place)))
    config = read_config(place)
    kind, class_name = config.get("model_type"), config.get("_class_name")
    if kind == MODEL_TYPE:
        try:
            sizes = VqganConfig.from_dict(config)
        except (KeyError, TypeError) as error:
            raise UserError(
                f"{place / 'config.json'} does not give the sizes of a VQGAN ({error}); write the "
                "directory again"
            ) from error
        state = read_checkpoint(place / "model.safetensors")
        return VqganCodec(_build(sizes, state, str(place)))
    if kind in TRANSFORMERS:
        import transformers

        name, codec, sizes_of = TRANSFORMERS[kind]
        model = load_pretrained(getattr(transformers, name), place)
        return codec(model, *sizes_of(model.config))
    if class_name == "VQModel":
        return _open_diffusers(place)
    expected = ", ".join((MODEL_TYPE, *TRANSFORMERS, "diffusers' VQModel"))
    raise UserError(f"{place} is of type {kind or class_name!r}, no VQ model; expected {expected}")


def _build(config: VqganConfig, state: dict[str, Any], source: str) -> Vqgan:
    model = Vqgan(config)
    load_strictly(model, state, source=source)
    return model.eval().requires_grad_(False)


def _open_diffusers(place: Path) -> DiffusersCodec:
    try:
        from diffusers import VQModel
    except ImportError as error:
        raise UserError(
            f"{place} is a VQModel of diffusers, which is not installed; `pip install "
            "pad-pipeline[vlsa]`"
        ) from error
    try:
        model, report = VQModel.from_pretrained(
            str(place), output_loading_info=True, low_cpu_mem_usage=False, local_files_only=True
        )
    except (OSError, ValueError, RuntimeError) as error:
        first = (str(error).strip() or type(error).__name__).splitlines()[0]
        raise UserError(f"no VQModel could be read from {place}: {first}") from error
    wrong = [*report["missing_keys"], *report["unexpected_keys"], *report["mismatched_keys"]]
    if wrong:
        raise UserError(f"{place} does not fit VQModel: {', '.join(map(str, wrong[:5]))}")
    factor = 2 ** (len(model.config["block_out_channels"]) - 1)
    return DiffusersCodec(model.eval(), factor, model.config["num_vq_embeddings"])
