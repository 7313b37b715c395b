"""The stages with their models: found, identified, and loaded on the worker that runs them."""

from __future__ import annotations

import os
from dataclasses import replace
from pathlib import Path
from typing import Any

from pad_pipeline.engine import stages
from pad_pipeline.engine.batches import batch_size
from pad_pipeline.engine.config import STAGE_NAMES, AnnotateConfig
from pad_pipeline.engine.stages import ModelStage, Seconds, Stage
from pad_pipeline.models import references


def locate_models(config: AnnotateConfig) -> AnnotateConfig:
    """The config with every model's path absolute, as workers elsewhere need it.

    Hub ids and `embedded` stay as they are. Raises `UserError` where a model is not there.
    """
    return replace(
        config,
        tag=replace(config.tag, model=_located(config.tag.model)),
        detect=replace(config.detect, model=_located(config.detect.model)),
        segment=replace(config.segment, model=_located(config.segment.model)),
    )


def _located(reference: str) -> str:
    if reference == references.EMBEDDED:
        return reference
    place = references.resolve(reference)
    return str(place.absolute()) if isinstance(place, Path) else place


def build_chain(config: AnnotateConfig, seconds: Seconds) -> Stage:
    """All four stages in this process, as one."""
    return stages.Chain([build_stage(config, name, seconds) for name in STAGE_NAMES])


def build_stage(config: AnnotateConfig, name: str, seconds: Seconds) -> ModelStage:
    """One stage with its model loaded in this process.

    The config's device must be resolved. Raises `UserError` where the model cannot be loaded.
    """
    import torch

    from pad_pipeline.images import ImageLimits
    from pad_pipeline.models import registry
    from pad_pipeline.models.base import Runtime

    if name == "suppress":
        return stages.suppress_stage(config.suppress, seconds)
    threads = config.threads or os.cpu_count() or 1
    # Ray sets one thread per reserved CPU slot, which are not cores here
    torch.set_num_threads(threads)
    runtime = Runtime(device=config.device, dtype=config.dtype, compile=config.compile)
    limits = ImageLimits(max_pixels=config.max_pixels, max_bytes=config.max_bytes)
    options: dict[str, Any] = {
        "batch_size": batch_size(config, name),
        "decode": stages.Decode(limits, seconds, threads),
        "seconds": seconds,
    }
    if config.device == "cuda":
        options["free_memory"] = torch.cuda.empty_cache
    match name:
        case "tag":
            return stages.tag_stage(registry.load_tagger(config.tag.model, runtime), **options)
        case "detect":
            detector = registry.load_detector(
                config.detect.model,
                runtime,
                box_threshold=config.detect.box_threshold,
                text_threshold=config.detect.text_threshold,
                label_mode=config.detect.label_mode,
                max_pairs=config.detect.batch_size,
            )
            return stages.detect_stage(detector, **options)
        case "segment":
            segmenter = registry.load_segmenter(
                config.segment.model, runtime, max_boxes=config.segment.box_batch_size
            )
            return stages.segment_stage(segmenter, **options)
    raise ValueError(f"no stage is called {name!r}")


def fingerprints(config: AnnotateConfig) -> dict[str, str]:
    """The checksum of each stage's model; raises `UserError` where a model is not there."""
    return {
        "tag": references.fingerprint(config.tag.model, "tagger"),
        "detect": references.fingerprint(config.detect.model, "detector"),
        "segment": references.fingerprint(config.segment.model, "segmenter"),
    }
