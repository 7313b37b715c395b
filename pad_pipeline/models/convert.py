"""Original checkpoints to self-contained model directories."""

from __future__ import annotations

import os
from collections.abc import Callable, Mapping, Sequence
from dataclasses import replace
from pathlib import Path

from pad_pipeline.errors import Setting, UserError
from pad_pipeline.models.base import Runtime
from pad_pipeline.models.checkpoints import read_checkpoint
from pad_pipeline.models.ram.config import DEFAULT_THRESHOLD, RELEASED_TAGS, RELEASED_THRESHOLDS
from pad_pipeline.models.references import Kind
from pad_pipeline.models.sidecar import read_sidecar_config
from pad_pipeline.storage.atomic import replacing


def convert(
    kind: Kind,
    checkpoint: str | Path,
    output: str | Path,
    *,
    tags: str | Path | None = None,
    thresholds: str | Path | None = None,
    tokenizer: str | Path | None = None,
) -> Path:
    """Write the checkpoint as a model directory, in float32, and return its path.

    `tags` and `thresholds` are text files with one a line, for the taggers; `tokenizer` is a hub
    id, a directory or a vocab.txt, for the detector (by default the vocab.txt beside the
    checkpoint, else that of the released models). Sizes that the tensors do not show, and the tags
    where none are given, come from a config.json beside the checkpoint (see
    `read_sidecar_config`), else they are those of the released models. The directory appears whole
    or not at all. Raises `UserError` where the checkpoint does not fit `kind`, an option is out of
    place, or `output` exists and is not an empty directory.
    """
    output = Path(output)
    options = {"tags": tags, "thresholds": thresholds, "tokenizer": tokenizer}
    _check_options(kind, options)
    if output.exists() and (not output.is_dir() or any(output.iterdir())):
        raise UserError(f"{output} already exists; remove it or choose another destination")
    if not Path(checkpoint).is_file():
        raise UserError(
            f"no checkpoint at {checkpoint}; give the path of the released file, see "
            "`pad-pipeline models list`"
        )
    try:
        output.parent.mkdir(parents=True, exist_ok=True)
        with replacing(output) as partial:
            partial.mkdir()
            _WRITERS[kind](Path(checkpoint), partial, options)
            _open_to_others(partial)
    except OSError as error:
        raise UserError(
            f"{output} cannot be written: {error.strerror or error}; check the permissions and "
            "the free space, or name another directory"
        ) from error
    return output


Options = Mapping[str, str | Path | None]


def _write_ram(checkpoint: Path, output: Path, options: Options) -> None:
    _write_tagger("ram", checkpoint, output, options)


def _write_ram_plus(checkpoint: Path, output: Path, options: Options) -> None:
    _write_tagger("ram-plus", checkpoint, output, options)


def _write_tagger(kind: Kind, checkpoint: Path, output: Path, options: Options) -> None:
    from pad_pipeline.models.ram.config import config_from_golden, read_tags, read_thresholds
    from pad_pipeline.models.ram.load import save_ram
    from pad_pipeline.models.ram.state_dict import (
        build_ram,
        convert_ram_checkpoint,
        load_ram_checkpoint,
    )

    tags, thresholds = options["tags"], options["thresholds"]
    beside = read_sidecar_config(checkpoint, *_NAMES_BESIDE[kind])
    if beside is None and tags is None:
        tags, thresholds = RELEASED_TAGS, thresholds or RELEASED_THRESHOLDS
    names = read_tags(tags) if tags is not None else None
    limits = read_thresholds(thresholds) if thresholds is not None else None
    if beside is None:
        assert names is not None
        _check_number(names, limits, tags, thresholds)
        save_ram(load_ram_checkpoint(checkpoint, names, limits, model_type=kind), output)
        return
    sizes = config_from_golden(beside)
    if names is not None:
        _check_number(names, limits, tags, thresholds)
        limits = limits or (DEFAULT_THRESHOLD,) * len(names)
        deleted = sizes.delete_tag_index if names == sizes.tags else ()
        sizes = replace(sizes, tags=names, thresholds=limits, delete_tag_index=deleted)
    elif limits is not None:
        _check_number(sizes.tags, limits, checkpoint.parent / "config.json", thresholds)
        sizes = replace(sizes, thresholds=limits)
    source = str(checkpoint)
    state = convert_ram_checkpoint(read_checkpoint(checkpoint), sizes, source=source)
    save_ram(build_ram(sizes, state, source=source), output)


def _check_number(
    names: Sequence[str],
    limits: Sequence[float] | None,
    tags: str | Path | None,
    thresholds: str | Path | None,
) -> None:
    if limits is not None and len(limits) != len(names):
        raise UserError(
            f"{thresholds} has {len(limits)} thresholds for the {len(names)} tags of {tags}; "
            "give one a tag, in the same order"
        )


def _write_grounding_dino(checkpoint: Path, output: Path, options: Options) -> None:
    from pad_pipeline.models.grounding_dino.detector import GroundingDinoDetector
    from pad_pipeline.models.grounding_dino.load import (
        DEFAULT_TOKENIZER,
        build_grounding_dino,
        check_tokenizer,
        load_tokenizer,
        save_grounding_dino,
    )
    from pad_pipeline.models.grounding_dino.state_dict import config_from_golden

    beside = read_sidecar_config(checkpoint, *_NAMES_BESIDE["grounding-dino"])
    vocabulary = checkpoint.parent / "vocab.txt"
    words = load_tokenizer(
        options["tokenizer"] or (vocabulary if vocabulary.is_file() else DEFAULT_TOKENIZER)
    )
    model = build_grounding_dino(
        read_checkpoint(checkpoint),
        source=str(checkpoint),
        config=config_from_golden(beside) if beside else None,
    )
    check_tokenizer(words, model)
    save_grounding_dino(GroundingDinoDetector(model, words, Runtime()), output)


def _write_sam(checkpoint: Path, output: Path, options: Options) -> None:
    from pad_pipeline.models.sam.load import load_sam, save_sam

    del options
    save_sam(load_sam(checkpoint, Runtime()), output)


def _write_mobile_sam(checkpoint: Path, output: Path, options: Options) -> None:
    from pad_pipeline.models.sam.load import build_mobile_sam, save_sam
    from pad_pipeline.models.sam.onnx_package import PACKAGE_SUFFIXES, read_onnx_package
    from pad_pipeline.models.sam.segmenter import SamSegmenter

    del options
    of_package = checkpoint.name.endswith(PACKAGE_SUFFIXES)
    state = read_onnx_package(checkpoint) if of_package else read_checkpoint(checkpoint)
    save_sam(SamSegmenter(build_mobile_sam(state, source=str(checkpoint)), Runtime()), output)


_WRITERS: Mapping[str, Callable[[Path, Path, Options], None]] = {
    "ram": _write_ram,
    "ram-plus": _write_ram_plus,
    "grounding-dino": _write_grounding_dino,
    "sam": _write_sam,
    "mobile-sam": _write_mobile_sam,
}

_NAMES_BESIDE: Mapping[Kind, tuple[str, ...]] = {
    "ram": ("ram",),
    "ram-plus": ("ram_plus",),
    "grounding-dino": ("groundingdino",),
}
"""What a config.json beside a checkpoint calls each kind; SAM's is read on loading."""

_TAKES: Mapping[str, tuple[str, ...]] = {
    "ram": ("tags", "thresholds"),
    "ram-plus": ("tags", "thresholds"),
    "grounding-dino": ("tokenizer",),
    "sam": (),
    "mobile-sam": (),
}
"""The options that each kind has a use for."""


def _check_options(kind: Kind, options: Options) -> None:
    if kind not in _WRITERS:
        raise UserError(f"unknown kind of model {kind!r}; choose one of {', '.join(_WRITERS)}")
    for name, value in options.items():
        if value is not None and name not in _TAKES[kind]:
            raise UserError(f"{kind} takes no ", Setting(name), "; leave it out")


def _open_to_others(directory: Path) -> None:
    """The usual permissions: the files that safetensors writes are private."""
    mask = os.umask(0)
    os.umask(mask)
    directory.chmod(0o777 & ~mask)
    for path in directory.rglob("*"):
        path.chmod((0o777 if path.is_dir() else 0o666) & ~mask)
