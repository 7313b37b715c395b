"""The models that the chain is made for: where their released weights live, and what is on disk.

The weights are their authors'; this lists facts about the files and says nothing about results.
"""

from __future__ import annotations

import json
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path

from pad_pipeline.models.hub import cached_snapshot
from pad_pipeline.models.references import (
    CHECKPOINT_SUFFIXES,
    EMBEDDED,
    EMBEDDED_WEIGHTS,
    Role,
    models_folder,
)
from pad_pipeline.models.registry import DETECTORS, SEGMENTERS, TAGGERS

APACHE = "Apache-2.0"


@dataclass(frozen=True, slots=True, kw_only=True)
class KnownModel:
    """A released model.

    `reference` is what the options `--tag.model`, `--detect.model` and `--segment.model` take: a
    hub id, or the name of the directory that `convert` is to make in the models folder. `source`
    is the address of the weights, `file` their name there. `size_gb` is about what is downloaded,
    in 10⁹ bytes. `convert` is the first word after `pad-pipeline models convert`, where needed,
    and `also` what else that takes.
    """

    reference: str
    role: Role
    title: str
    source: str
    file: str
    size_gb: float
    licence: str = APACHE
    convert: str | None = None
    also: str | None = None


_RAM_DATA = "https://github.com/xinyu1205/recognize-anything/tree/main/ram/data: "
_HUB = "https://huggingface.co/"
_META = "https://dl.fbaipublicfiles.com/segment_anything/"
_DINO = "https://github.com/IDEA-Research/GroundingDINO/releases/download/"

KNOWN = (
    KnownModel(
        reference="ram",
        role="tagger",
        title="RAM, Swin-L, 384 px",
        source=f"{_HUB}xinyu1205/recognize_anything_model",
        file="ram_swin_large_14m.pth",
        size_gb=5.6,
        convert="ram",
        also=f"{_RAM_DATA}ram_tag_list.txt, ram_tag_list_threshold.txt",
    ),
    KnownModel(
        reference="ram-plus",
        role="tagger",
        title="RAM++, Swin-L, 384 px",
        source=f"{_HUB}xinyu1205/recognize-anything-plus-model",
        file="ram_plus_swin_large_14m.pth",
        size_gb=3.0,
        convert="ram-plus",
        also=f"{_RAM_DATA}ram_tag_list.txt, ram_tag_list_threshold.txt",
    ),
    KnownModel(
        reference="IDEA-Research/grounding-dino-tiny",
        role="detector",
        title="Grounding DINO, Swin-T",
        source=f"{_HUB}IDEA-Research/grounding-dino-tiny",
        file="model.safetensors",
        size_gb=0.7,
    ),
    KnownModel(
        reference="IDEA-Research/grounding-dino-base",
        role="detector",
        title="Grounding DINO, Swin-B",
        source=f"{_HUB}IDEA-Research/grounding-dino-base",
        file="model.safetensors",
        size_gb=0.9,
    ),
    KnownModel(
        reference="groundingdino_swint_ogc",
        role="detector",
        title="Grounding DINO, Swin-T, original file",
        source=f"{_DINO}v0.1.0-alpha/groundingdino_swint_ogc.pth",
        file="groundingdino_swint_ogc.pth",
        size_gb=0.7,
        convert="grounding-dino",
        also="the tokenizer of bert-base-uncased",
    ),
    KnownModel(
        reference="groundingdino_swinb_cogcoor",
        role="detector",
        title="Grounding DINO, Swin-B, original file",
        source=f"{_DINO}v0.1.0-alpha2/groundingdino_swinb_cogcoor.pth",
        file="groundingdino_swinb_cogcoor.pth",
        size_gb=0.9,
        convert="grounding-dino",
        also="the tokenizer of bert-base-uncased",
    ),
    KnownModel(
        reference="openmmlab-community/mm_grounding_dino_tiny_o365v1_goldg_v3det",
        role="detector",
        title="MM-Grounding-DINO, Swin-T",
        source=f"{_HUB}openmmlab-community/mm_grounding_dino_tiny_o365v1_goldg_v3det",
        file="model.safetensors",
        size_gb=0.7,
    ),
    KnownModel(
        reference="openmmlab-community/mm_grounding_dino_base_all",
        role="detector",
        title="MM-Grounding-DINO, Swin-B",
        source=f"{_HUB}openmmlab-community/mm_grounding_dino_base_all",
        file="model.safetensors",
        size_gb=0.9,
    ),
    KnownModel(
        reference="facebook/sam-vit-huge",
        role="segmenter",
        title="SAM, ViT-H",
        source=f"{_HUB}facebook/sam-vit-huge",
        file="model.safetensors",
        size_gb=2.6,
    ),
    KnownModel(
        reference="facebook/sam-vit-large",
        role="segmenter",
        title="SAM, ViT-L",
        source=f"{_HUB}facebook/sam-vit-large",
        file="model.safetensors",
        size_gb=1.25,
    ),
    KnownModel(
        reference="facebook/sam-vit-base",
        role="segmenter",
        title="SAM, ViT-B",
        source=f"{_HUB}facebook/sam-vit-base",
        file="model.safetensors",
        size_gb=0.4,
    ),
    KnownModel(
        reference="sam_vit_h_4b8939",
        role="segmenter",
        title="SAM, ViT-H, original file",
        source=f"{_META}sam_vit_h_4b8939.pth",
        file="sam_vit_h_4b8939.pth",
        size_gb=2.6,
        convert="sam",
    ),
    KnownModel(
        reference="sam_vit_l_0b3195",
        role="segmenter",
        title="SAM, ViT-L, original file",
        source=f"{_META}sam_vit_l_0b3195.pth",
        file="sam_vit_l_0b3195.pth",
        size_gb=1.25,
        convert="sam",
    ),
    KnownModel(
        reference="sam_vit_b_01ec64",
        role="segmenter",
        title="SAM, ViT-B, original file",
        source=f"{_META}sam_vit_b_01ec64.pth",
        file="sam_vit_b_01ec64.pth",
        size_gb=0.4,
        convert="sam",
    ),
    KnownModel(
        reference="syscv-community/sam-hq-vit-huge",
        role="segmenter",
        title="SAM-HQ, ViT-H",
        source=f"{_HUB}syscv-community/sam-hq-vit-huge",
        file="model.safetensors",
        size_gb=2.6,
    ),
    KnownModel(
        reference="facebook/sam2.1-hiera-large",
        role="segmenter",
        title="SAM 2.1, Hiera-L",
        source=f"{_HUB}facebook/sam2.1-hiera-large",
        file="model.safetensors",
        size_gb=0.9,
    ),
)
"""By role, in the order in which they are listed."""


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
    return _snapshot(known.source.removeprefix(_HUB), known.file)


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
