"""The models that the chain knows and what is on disk of them, by name, place and role."""

from __future__ import annotations

import json
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path

from pad_pipeline.errors import UserError, plural
from pad_pipeline.models.hub import cached_snapshot
from pad_pipeline.models.known_models import KNOWN, KnownModel
from pad_pipeline.models.references import (
    CHECKPOINT_SUFFIXES,
    EMBEDDED,
    EMBEDDED_WEIGHTS,
    Role,
    models_folder,
    resolve,
)
from pad_pipeline.models.registry import DETECTORS, SEGMENTERS, TAGGERS


@dataclass(frozen=True, slots=True)
class OnDisk:
    """A known model, or one of the user's own (`known` is None), and where it lies.

    `path` is a model directory, a hub snapshot or a checkpoint file; None where there is none.
    `reference` is what the options take.
    """

    reference: str
    role: Role | None
    known: KnownModel | None
    path: Path | None


def list_models() -> list[OnDisk]:
    """The embedded models, the known ones, then whatever else is in the models folder."""
    roles: tuple[Role, ...] = ("tagger", "detector", "segmenter")
    listed: list[OnDisk] = []
    for role in roles:
        shipped = EMBEDDED_WEIGHTS / role
        listed.append(OnDisk(EMBEDDED, role, None, shipped if shipped.is_dir() else None))
    listed += [OnDisk(known.reference, known.role, known, find(known)) for known in KNOWN]
    found = {entry.path for entry in listed}
    for path in _entries(models_folder()):
        if path not in found:
            listed.append(OnDisk(path.name, _role_of(path), None, path))
    return listed


def known_model(name: str) -> KnownModel:
    """The known model of that reference; `UserError` with the names where there is none."""
    for known in KNOWN:
        if name in (known.reference, known.file) and name != "model.safetensors":
            return known
    names = ", ".join(known.reference for known in KNOWN)
    raise UserError(f"{name!r} is none of the {plural(len(KNOWN), 'known model')}: {names}")


def role_of(reference: str) -> Role:
    """What the model of that name does in the chain.

    Raises `UserError` for a checkpoint file and a hub id that is not known: they do not say it.
    """
    for known in KNOWN:
        if known.reference == reference:
            return known.role
    place = resolve(reference)
    role = _role_of(place) if isinstance(place, Path) else None
    if role is None:
        raise UserError(
            f"{reference} does not say whether it is a tagger, a detector or a segmenter; give a "
            "known model or a directory that `pad-pipeline models convert` wrote"
        )
    return role


def find(known: KnownModel) -> Path | None:
    """Where a known model lies: in the models folder (directory or file), or in the hub's cache."""
    folder = models_folder()
    for path in (folder / known.reference, folder / known.reference.split("/")[-1]):
        if (path / "config.json").is_file():
            return path
    if known.convert is None:
        return _snapshot(known.reference, known.file)
    for path in (folder / known.file, *folder.glob(f"*/{known.file}")):
        if path.is_file():
            return path
    return _snapshot(known.hub_id, known.file) if known.hub_id else None


def _snapshot(hub_id: str, file: str) -> Path | None:
    """The cached snapshot folder of a hub id, if `file` is there, or a checkpoint in it."""
    snapshot = cached_snapshot(hub_id)
    if snapshot is None or not (snapshot / file).exists():
        return None
    return snapshot if file == "model.safetensors" else snapshot / file


def _entries(folder: Path) -> Iterator[Path]:
    """What in a models folder is a model directory or a checkpoint file."""
    if folder.is_dir():
        for path in sorted(folder.iterdir()):
            if (path / "config.json").is_file() or path.suffix in CHECKPOINT_SUFFIXES:
                yield path


def _role_of(path: Path) -> Role | None:
    """By the type in a directory's config.json; a checkpoint file does not show its own."""
    try:
        model_type = json.loads((path / "config.json").read_text()).get("model_type")
    except (OSError, ValueError, AttributeError):
        return None
    if model_type in TAGGERS:
        return "tagger"
    if model_type in DETECTORS:
        return "detector"
    return "segmenter" if model_type in SEGMENTERS else None
