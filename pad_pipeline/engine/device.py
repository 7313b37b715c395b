"""Which device and dtype the models of a run have, decided where the config leaves it open."""

from __future__ import annotations

import ctypes
import os
import sys
from dataclasses import replace

from pad_pipeline.engine.config import AnnotateConfig
from pad_pipeline.errors import Setting, UserError
from pad_pipeline.models.precision import check_quantize


def resolve_device(config: AnnotateConfig, *, cluster_gpus: float | None = None) -> AnnotateConfig:
    """The config with device and dtype decided.

    `cluster_gpus` is the number of GPUs of the cluster that the models will run on; None means
    this machine. Raises `UserError` where the config needs a GPU that is not there.
    """
    device = choose_device(config.device, cluster_gpus=cluster_gpus)
    dtype = config.dtype
    if dtype == "auto":
        dtype = "bfloat16" if device == "cuda" else "float32"
    check_quantize(config.segment.quantize, device, dtype)
    return replace(config, device=device, dtype=dtype)


def choose_device(device: str, *, cluster_gpus: float | None = None) -> str:
    """`device` with "auto" decided, "cpu" or a CUDA device.

    `cluster_gpus` is that of `resolve_device`. Raises `UserError` where a GPU is asked for that is
    not there.
    """
    has_gpu = _sees_gpu() if cluster_gpus is None else cluster_gpus > 0
    if device == "auto":
        device = "cuda" if has_gpu else "cpu"
    if device != "cpu" and cluster_gpus is None:
        from pad_pipeline.models.base import check_device

        check_device(device)
    elif device == "cuda" and not has_gpu:
        raise UserError(
            Setting("device", "cuda"),
            " needs a GPU, but the Ray cluster has no GPU; add a GPU node, or use ",
            Setting("device", "cpu"),
        )
    return device


def _sees_gpu() -> bool:
    """Whether torch sees a GPU on this machine; torch, slow to import, only where a driver is."""
    if not _has_driver():
        return False
    import torch

    return torch.cuda.is_available()


def _has_driver() -> bool:
    """Whether the driver of an NVIDIA or AMD GPU is installed."""
    if os.path.exists("/dev/kfd"):
        return True
    try:
        ctypes.CDLL("nvcuda.dll" if sys.platform == "win32" else "libcuda.so.1")
    except OSError:
        return False
    return True


def local_gpus(config: AnnotateConfig) -> int:
    """The GPUs of this machine that the models may use."""
    if config.device != "cuda":
        return 0
    import torch

    return torch.cuda.device_count()
