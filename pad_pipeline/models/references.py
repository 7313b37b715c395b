"""What the name of a model means: an embedded one, a path, one of the models folder, a hub id."""

from __future__ import annotations

import hashlib
import os
import re
from pathlib import Path
from typing import Literal

from pad_pipeline.errors import UserError

Role = Literal["tagger", "detector", "segmenter", "vq"]

Kind = Literal["ram", "ram-plus", "grounding-dino", "sam", "mobile-sam"]
"""The layouts of original checkpoints that `convert` reads."""

EMBEDDED = "embedded"
"""The name of the small models that ship with the package."""

EMBEDDED_WEIGHTS = Path(__file__).parents[1] / "scenes" / "weights"
"""One model directory for each role, and the "vision" and "language" models of training."""

CHECKPOINT_SUFFIXES = (".pth", ".pt", ".ckpt", ".bin", ".safetensors")

_HUB_ID = re.compile(r"[A-Za-z0-9][\w.-]*/[\w.-]+")


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
        "id (owner/name). `pad-pipeline models list` names those that `pad-pipeline models fetch` "
        "downloads, and `embedded` needs no download"
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


def local_path(reference: str | Path, role: Role) -> Path:
    """The path of a model; that of a hub id is its snapshot, fetched where it is not there yet."""
    place = resolve(reference, role)
    if isinstance(place, Path):
        return place
    from pad_pipeline.models.hub import snapshot_of

    return snapshot_of(place)


def _digest(path: Path) -> str:
    with path.open("rb") as file:
        return hashlib.file_digest(file, "sha256").hexdigest()
