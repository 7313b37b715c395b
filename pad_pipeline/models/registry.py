"""Builders of taggers, detectors, segmenters and embedders by model type, and loading by name.

Importing this loads no model library; building a model does.
"""

from __future__ import annotations

import json
from collections.abc import Callable, Mapping
from pathlib import Path
from typing import TYPE_CHECKING, Any

from pad_pipeline.errors import Setting, UserError
from pad_pipeline.models.references import local_path

if TYPE_CHECKING:
    from pad_pipeline.models.base import Runtime
    from pad_pipeline.models.embedding.embedder import PatchEmbedder
    from pad_pipeline.models.protocols import Detector, MaskDetector, Segmenter, Tagger


def _ram(reference: str | Path, runtime: Runtime) -> Tagger:
    from pad_pipeline.models.ram.load import load_ram

    if not Path(reference).is_dir():
        raise UserError(
            f"{reference} is not a tagger's directory: a RAM checkpoint does not hold its tags; "
            "write one with `pad-pipeline models convert ram CHECKPOINT --output DIR`"
        )
    return load_ram(reference, runtime)


def _grounding_dino(reference: str | Path, runtime: Runtime, **options: Any) -> Detector:
    from pad_pipeline.models.grounding_dino.load import load_grounding_dino

    return load_grounding_dino(reference, runtime, **options)


def _owlv2(reference: str | Path, runtime: Runtime, **options: Any) -> Detector:
    from pad_pipeline.models.owlv2.load import load_owlv2

    return load_owlv2(reference, runtime, **options)


def _sam(reference: str | Path, runtime: Runtime, **options: Any) -> Segmenter:
    from pad_pipeline.models.sam.load import load_sam

    return load_sam(reference, runtime, **options)


def _ram_embedder(reference: str | Path, runtime: Runtime) -> PatchEmbedder:
    from pad_pipeline.models.embedding.ram import load_ram_embedder

    return load_ram_embedder(reference, runtime)


def _clip_embedder(reference: str | Path, runtime: Runtime) -> PatchEmbedder:
    from pad_pipeline.models.embedding.clip import load_clip_embedder

    return load_clip_embedder(reference, runtime)


def _sam3(reference: str | Path, runtime: Runtime, **options: Any) -> MaskDetector:
    from pad_pipeline.models.sam3.load import load_sam3

    return load_sam3(reference, runtime, **options)


def _no_masks(reference: str | Path, runtime: Runtime, **options: Any) -> MaskDetector:
    raise UserError(
        f"{reference} draws no masks: a file is a checkpoint of Grounding DINO; give a SAM 3, or ",
        Setting("segment.from_", "model"),
    )


TAGGERS: Mapping[str, Callable[..., Tagger]] = {"ram": _ram, "ram-plus": _ram}
"""Builders by `model_type` of the model directory's config.json; so are the next three."""

MASK_DETECTORS: Mapping[str, Callable[..., MaskDetector]] = {
    "sam3": _sam3,
    "sam3_lite_text": _sam3,
    "sam3_video": _sam3,
}
"""Detectors that draw the masks of their boxes too."""

DETECTORS: Mapping[str, Callable[..., Detector]] = {
    "grounding-dino": _grounding_dino,
    "mm-grounding-dino": _grounding_dino,
    "owlv2": _owlv2,
    **MASK_DETECTORS,
}

SEGMENTERS: Mapping[str, Callable[..., Segmenter]] = {
    "sam": _sam,
    "mobile_sam": _sam,
    "sam_hq": _sam,
    "sam2": _sam,
    "sam2_video": _sam,
    "sam3_tracker": _sam,
    "sam3_video": _sam,
}

EMBEDDERS: Mapping[str, Callable[..., PatchEmbedder]] = {
    "ram": _ram_embedder,
    "ram-plus": _ram_embedder,
    "clip": _clip_embedder,
    "clip_vision_model": _clip_embedder,
}


def load_tagger(reference: str | Path, runtime: Runtime) -> Tagger:
    """The tagger of a converted directory, of its name in the models folder, or "embedded".

    Raises `UserError` where there is no such model or its weights do not fit.
    """
    place = local_path(reference, "tagger")
    return _builder(place, TAGGERS, "tagger", otherwise=_ram)(place, runtime)


def load_detector(reference: str | Path, runtime: Runtime, **options: Any) -> Detector:
    """The detector of a hub id, directory, original checkpoint, models folder or "embedded".

    `options` are those of `GroundingDinoDetector`, and `tokenizer` for an original checkpoint.
    Raises `UserError` where there is no such model or its weights do not fit.
    """
    place = local_path(reference, "detector")
    build = _builder(place, DETECTORS, "detector", otherwise=_grounding_dino)
    return build(place, runtime, **options)


def load_mask_detector(reference: str | Path, runtime: Runtime, **options: Any) -> MaskDetector:
    """The detector of a hub id or directory, which draws the masks of its boxes too.

    `options` are those of `Sam3Detector`. Raises `UserError` where there is no such model, it is
    one that draws none, or its weights do not fit.
    """
    place = local_path(reference, "detector")
    role = "detector that draws masks"
    return _builder(place, MASK_DETECTORS, role, otherwise=_no_masks)(place, runtime, **options)


def load_segmenter(reference: str | Path, runtime: Runtime, **options: Any) -> Segmenter:
    """The segmenter of a hub id, directory, original checkpoint, models folder or "embedded".

    `options` are those of `SamSegmenter`. Raises `UserError` where there is no such model or its
    weights do not fit.
    """
    place = local_path(reference, "segmenter")
    return _builder(place, SEGMENTERS, "segmenter", otherwise=_sam)(place, runtime, **options)


def load_embedder(reference: str | Path, runtime: Runtime) -> PatchEmbedder:
    """The embedder of a tagger as `load_tagger` takes it, or of a CLIP's hub id or directory.

    Raises `UserError` where there is no such model or its weights do not fit.
    """
    place = local_path(reference, "tagger")
    if not place.is_dir():
        raise UserError(f"{reference} is a file; give the directory of a tagger or of a CLIP")
    return _builder(place, EMBEDDERS, "tagger or CLIP", otherwise=None)(place, runtime)


def _builder(
    place: Path, builders: Mapping[str, Callable[..., Any]], role: str, otherwise: Any
) -> Callable[..., Any]:
    """By a directory's model type; a checkpoint file shows its own on loading."""
    if not place.is_dir():
        return otherwise
    path = place / "config.json"
    try:
        model_type = json.loads(path.read_text(encoding="utf-8")).get("model_type")
    except FileNotFoundError as error:
        raise UserError(
            f"{place} holds no config.json, so it is no model; give a directory that "
            "`pad-pipeline models convert` wrote or one in transformers' layout"
        ) from error
    except (OSError, ValueError, AttributeError) as error:
        raise UserError(f"{path} cannot be read: {error}; convert the model again") from error
    if model_type not in builders:
        raise UserError(
            f"{place} is of type {model_type!r}, not a {role}; expected one of "
            f"{', '.join(builders)}"
        )
    return builders[model_type]
