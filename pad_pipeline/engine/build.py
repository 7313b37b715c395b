"""The stages with their models: found, identified, and loaded on the worker that runs them."""

from __future__ import annotations

import os
from collections.abc import Callable, Mapping, Sequence
from concurrent.futures import Executor, ThreadPoolExecutor
from contextlib import AbstractContextManager
from dataclasses import replace
from functools import partial
from pathlib import Path
from typing import TYPE_CHECKING, Any

from pad_pipeline.engine import stages
from pad_pipeline.engine.batches import batch_size, chunks_in_flight, cut_by_pixels
from pad_pipeline.engine.chain import Chain
from pad_pipeline.engine.config import AnnotateConfig
from pad_pipeline.engine.given import GivenTags
from pad_pipeline.engine.joint_stage import detect_masks_stage
from pad_pipeline.engine.keep import DetectorRules, MaskDetectorRules, MaskLimits
from pad_pipeline.engine.stages import ModelStage, Seconds
from pad_pipeline.engine.turns import Turns
from pad_pipeline.images import ImageLimits
from pad_pipeline.models import references
from pad_pipeline.models.protocols import Detector, Image
from pad_pipeline.models.references import Role

if TYPE_CHECKING:
    from pad_pipeline.models.base import Runtime


def locate_models(config: AnnotateConfig) -> AnnotateConfig:
    """The config with every model's path absolute, as workers elsewhere need it.

    Hub ids and `embedded` stay as they are, and so do models that are not needed. Raises
    `UserError` where a model is not there.
    """
    if "captions" in config.tag_origins:
        from pad_pipeline.models.phrases.finder import located_parser

        config = replace(config, tag=replace(config.tag, parser=located_parser(config.tag.parser)))
    needed = {name: getattr(config, name) for name in config.models}
    located = {name: replace(one, model=_located(one.model)) for name, one in needed.items()}
    if config.detect.second is not None:
        detect = located["detect"]
        located["detect"] = replace(detect, second=_located(config.detect.second))
    return replace(config, **located)


def _located(reference: str) -> str:
    if reference == references.EMBEDDED:
        return reference
    place = references.resolve(reference)
    return str(place.absolute()) if isinstance(place, Path) else place


def build_chain(
    config: AnnotateConfig, seconds: Seconds, names: Sequence[str] | None = None
) -> Chain:
    """Stages in this process as one, by default all of the run, as each of its workers has them.

    The config's device must be resolved. Raises `UserError` where a model cannot be loaded.
    """
    names = config.stage_names if names is None else names
    on_gpu = config.device == "cuda" and not set(config.models).isdisjoint(names)
    if on_gpu:
        # Two chunks in flight use memory in turns of many sizes, which would break it up.
        os.environ.setdefault("PYTORCH_ALLOC_CONF", "expandable_segments:True")
    threads = ThreadPoolExecutor(_num_threads(config), "pictures")
    hold = _keep_upload if on_gpu and len(names) > 1 else None
    chain = [build_stage(config, name, seconds, threads, hold) for name in names]
    if on_gpu and chunks_in_flight(config) > 1:
        turns = Turns()
        chain = [replace(stage, turns=turns) for stage in chain]
    options: dict[str, Any] = {}
    if config.max_chunk_bytes is not None:
        options["cut"] = partial(
            cut_by_pixels, max_bytes=config.max_chunk_bytes, limits=_limits(config)
        )
    if on_gpu:
        options["new_stream"] = _new_stream
    return Chain(chain, **options)


def build_stage(
    config: AnnotateConfig,
    name: str,
    seconds: Seconds,
    threads: Executor | None = None,
    hold: Callable[[Image], Image] | None = None,
) -> ModelStage:
    """One stage with its model loaded in this process.

    `threads` decode the images and write masks, `hold` makes of an image what the models are given
    (see `Decode`). The config's device must be resolved. Raises `UserError` where the model cannot
    be loaded.
    """
    import torch

    from pad_pipeline.models import registry
    from pad_pipeline.models.base import Runtime

    if name == "suppress":
        return stages.suppress_stage(config.suppress, seconds, config.negative_words)
    # Ray sets one thread per reserved CPU slot, which are not cores here
    torch.set_num_threads(_num_threads(config))
    runtime = Runtime(device=config.device, dtype=config.dtype, compile=config.compile)
    decode = stages.Decode(_limits(config), seconds, threads)
    options: dict[str, Any] = {
        "batch_size": batch_size(config, name),
        "decode": decode if hold is None else replace(decode, hold=hold),
        "seconds": seconds,
        # the detector's steps take any size
        "fills_up": config.compile and name in ("tag", "segment"),
    }
    is_needed = name in config.models
    if config.device == "cuda" and is_needed:
        options["free_memory"] = torch.cuda.empty_cache
    match name:
        case "tag":
            tagger = registry.load_tagger(config.tag.model, runtime) if is_needed else None
            return stages.tag_stage(tagger, given_tags(config), **options)
        case "detect" if config.draws_masks:
            return detect_masks_stage(
                _load_mask_detector(config, runtime, threads),
                config.suppress,
                limits=_mask_limits(config),
                negative=config.negative_words,
                **options,
            )
        case "detect":
            detector = _load_detector(config, runtime) if is_needed else None
            options["group_by_size"] = config.detect.group_by_size
            options["masks"] = config.segment.from_ == "masks"
            return stages.detect_stage(detector, **options)
        case "segment":
            segmenter = None
            if is_needed:
                segmenter = registry.load_segmenter(
                    config.segment.model,
                    runtime,
                    max_boxes=config.segment.box_batch_size,
                    threads=threads,
                    quantize=config.segment.quantize,
                    stability=config.min_stability > 0,
                )
            return stages.segment_stage(segmenter, limits=_mask_limits(config), **options)
    raise ValueError(f"no stage is called {name!r}")


def _num_threads(config: AnnotateConfig) -> int:
    return config.threads or os.cpu_count() or 1


def _mask_limits(config: AnnotateConfig) -> MaskLimits:
    return MaskLimits(
        config.min_predicted_iou, config.min_stability, config.min_area, config.max_area
    )


def _limits(config: AnnotateConfig) -> ImageLimits:
    return ImageLimits(max_pixels=config.max_pixels, max_bytes=config.max_bytes)


def _keep_upload(image: Image) -> Image:
    """An image that several models read on the GPU."""
    from pad_pipeline.models.device_image import DeviceImage

    return image if isinstance(image, DeviceImage) else image.view(DeviceImage)


def _new_stream() -> AbstractContextManager[Any]:
    """A stream of the GPU for one thread, on which the models' weights are there."""
    import torch

    torch.cuda.synchronize()
    return torch.cuda.stream(torch.cuda.Stream())


def _load_detector(config: AnnotateConfig, runtime: Runtime) -> Detector:
    """The detector with all that the config asks of its boxes."""
    from pad_pipeline.models import registry

    detector = registry.load_detector(config.detect.model, runtime, **_detector_options(config))
    return DetectorRules(detector, **_detector_rules(config, runtime))


def _load_mask_detector(
    config: AnnotateConfig, runtime: Runtime, threads: Executor | None
) -> MaskDetectorRules:
    """The same where the detector draws the masks too."""
    from pad_pipeline.models import registry

    detector = registry.load_mask_detector(
        config.detect.model,
        runtime,
        threads=threads,
        stability=config.min_stability > 0,
        **_detector_options(config),
    )
    return MaskDetectorRules(detector, **_detector_rules(config, runtime))


def _detector_options(config: AnnotateConfig) -> dict[str, Any]:
    return {
        "box_threshold": min((config.detect.box_threshold, *config.tag_thresholds.values())),
        "text_threshold": config.detect.text_threshold,
        "label_mode": config.detect.label_mode,
        "max_pairs": config.detect.batch_size,
        "pad_to": config.detect.pad_to,
    }


def _detector_rules(config: AnnotateConfig, runtime: Runtime) -> dict[str, Any]:
    from pad_pipeline.models import registry

    second = None
    if config.detect.second is not None:
        second = registry.load_detector(config.detect.second, runtime, **_detector_options(config))
    return {
        "box_threshold": config.detect.box_threshold,
        "thresholds": config.tag_thresholds,
        "negative": config.negative_words,
        "second": second,
        "second_iou": config.detect.second_iou,
    }


def given_tags(config: AnnotateConfig) -> GivenTags:
    """Where the config's tags are from; raises `UserError` where what captions need is missing."""
    phrases = None
    if "captions" in config.tag_origins:
        from pad_pipeline.models.phrases.finder import PhraseFinder

        phrases = PhraseFinder(config.tag.parser)
    return GivenTags(config.tag_origins, config.class_names, config.tag.from_ is not None, phrases)


_ROLES: Mapping[str, Role] = {"tag": "tagger", "detect": "detector", "segment": "segmenter"}


def fingerprints(config: AnnotateConfig) -> dict[str, str]:
    """The checksum of each model that is needed; raises `UserError` where one is not there."""
    found = {
        name: references.fingerprint(getattr(config, name).model, _ROLES[name])
        for name in config.models
    }
    if config.detect.second is not None:
        found["second"] = references.fingerprint(config.detect.second, "detector")
    return found
