"""The three models of the annotation chain: taggers, detectors and segmenters.

Importing this loads no model library; building a model does.
"""

from __future__ import annotations

import hashlib
import json
import os
import re
from collections.abc import Callable, Mapping
from pathlib import Path
from typing import TYPE_CHECKING, Any, Literal

from pad_pipeline.errors import UserError

if TYPE_CHECKING:
    from pad_pipeline.models.base import Runtime
    from pad_pipeline.models.protocols import Detector, Segmenter, Tagger

Role = Literal["tagger", "detector", "segmenter"]

EMBEDDED = "embedded"
"""The name of the small models that ship with the package."""

EMBEDDED_WEIGHTS = Path(__file__).parents[1] / "scenes" / "weights"
"""One model directory for each role."""

CHECKPOINT_SUFFIXES = (".pth", ".pt", ".bin", ".safetensors")

_HUB_ID = re.compile(r"[A-Za-z0-9][\w.-]*/[\w.-]+")


def _ram(reference: str | Path, runtime: Runtime, **options: Any) -> Tagger:
    from pad_pipeline.models.ram.tagger import load_ram

    if not Path(reference).is_dir():
        raise UserError(
            f"{reference} is not a tagger's directory: a RAM checkpoint does not hold its tags; "
            "write one with `pad-pipeline models convert ram CHECKPOINT --tags FILE --output DIR`"
        )
    return load_ram(reference, runtime, **options)


def _grounding_dino(reference: str | Path, runtime: Runtime, **options: Any) -> Detector:
    from pad_pipeline.models.grounding_dino.load import load_grounding_dino

    return load_grounding_dino(reference, runtime, **options)


def _sam(reference: str | Path, runtime: Runtime, **options: Any) -> Segmenter:
    from pad_pipeline.models.sam.load import load_sam

    return load_sam(reference, runtime, **options)


TAGGERS: Mapping[str, Callable[..., Tagger]] = {"ram": _ram, "ram-plus": _ram}
"""Builders by `model_type` of the model directory's config.json; so are the next two."""

DETECTORS: Mapping[str, Callable[..., Detector]] = {
    "grounding-dino": _grounding_dino,
    "mm-grounding-dino": _grounding_dino,
}

SEGMENTERS: Mapping[str, Callable[..., Segmenter]] = {
    "sam": _sam,
    "sam_hq": _sam,
    "sam2": _sam,
    "sam2_video": _sam,
}


def load_tagger(reference: str | Path, runtime: Runtime, **options: Any) -> Tagger:
    """The tagger of a converted directory, of its name in the models folder, or "embedded".

    `options` are those of `pad_pipeline.models.ram.tagger.load_ram`. Raises `UserError` where
    there is no such model or its weights do not fit.
    """
    place = _local(reference, "tagger")
    return _builder(place, TAGGERS, "tagger", otherwise=_ram)(place, runtime, **options)


def load_detector(reference: str | Path, runtime: Runtime, **options: Any) -> Detector:
    """The detector of a hub id, directory, original checkpoint, models folder or "embedded".

    `options` are those of `GroundingDinoDetector`, and `tokenizer` for an original checkpoint.
    Raises `UserError` where there is no such model or its weights do not fit.
    """
    place = _local(reference, "detector")
    build = _builder(place, DETECTORS, "detector", otherwise=_grounding_dino)
    return build(place, runtime, **options)


def load_segmenter(reference: str | Path, runtime: Runtime, **options: Any) -> Segmenter:
    """The segmenter of a hub id, directory, original checkpoint, models folder or "embedded".

    `options` are those of `SamSegmenter`. Raises `UserError` where there is no such model or its
    weights do not fit.
    """
    place = _local(reference, "segmenter")
    return _builder(place, SEGMENTERS, "segmenter", otherwise=_sam)(place, runtime, **options)


def models_folder() -> Path:
    """Where models are looked for by name: `PAD_MODELS`, else a folder of the user's cache."""
    named = os.environ.get("PAD_MODELS")
    return Path(named).expanduser() if named else Path.home() / ".cache/pad-pipeline/models"


def resolve(reference: str | Path, role: Role | None = None) -> str | Path:
    """What a model's name means: the path of a directory or file, or a hub id.

    "embedded" is the shipped model of `role`; a path is itself; then names in the models folder
    (`models_folder`; words without a slash are looked for there first), and last hub ids
    (`owner/name`). Raises `UserError` where it is none of them.
    """
    name = str(reference)
    if name == EMBEDDED:
        path = EMBEDDED_WEIGHTS / role if role else EMBEDDED_WEIGHTS
        if not path.is_dir():
            raise UserError(
                f"this installation has no embedded {role or 'models'} ({path} is missing); "
                "install pad-pipeline from a complete checkout or wheel"
            )
        return path
    places = [Path(name).expanduser(), models_folder() / name]
    if "/" not in name:  # a folder that happens to be called "ram" is not meant
        places.reverse()
    for path in places:
        if name and path.exists():
            return path
    looks_like_path = name.startswith((".", "/", "~")) or name.endswith(CHECKPOINT_SUFFIXES)
    if _HUB_ID.fullmatch(name) and not looks_like_path:
        return name
    raise UserError(
        f"there is no model {name!r}: neither a path, nor a name in {models_folder()}, nor a hub "
        "id (owner/name). `pad-pipeline models list` says where the released weights are, "
        "`pad-pipeline models convert` makes a directory of them, and `embedded` needs no download"
    )


def fingerprint(reference: str | Path, role: Role | None = None) -> str:
    """What identifies a model's weights and settings, for a run's provenance.

    Files: `sha256:` and the digest of the names and bytes of all files of the directory, or of the
    checkpoint's bytes. Hub ids: `hub:owner/name@` and the commit, which the hub is asked for.
    Raises `UserError` where there is no such model.
    """
    place = resolve(reference, role)
    if isinstance(place, str):
        from pad_pipeline.models.hub import commit_of

        return f"hub:{place}@{commit_of(place)}"
    if place.is_file():
        return f"sha256:{_digest(place)}"
    total = hashlib.sha256()
    for path in sorted(path for path in place.rglob("*") if path.is_file()):
        name = path.relative_to(place).as_posix()
        if not any(part.startswith((".", "__pycache__")) for part in name.split("/")):
            total.update(f"{name}\0{_digest(path)}\n".encode())
    return f"sha256:{total.hexdigest()}"


def _local(reference: str | Path, role: Role) -> Path:
    """The path of a model; that of a hub id is its snapshot, fetched where it is not there yet."""
    place = resolve(reference, role)
    if isinstance(place, Path):
        return place
    from pad_pipeline.models.hub import snapshot_of

    return snapshot_of(place)


def _builder(
    place: Path, builders: Mapping[str, Callable[..., Any]], role: Role, otherwise: Any
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


def _digest(path: Path) -> str:
    with path.open("rb") as file:
        return hashlib.file_digest(file, "sha256").hexdigest()
