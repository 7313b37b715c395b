"""What of a config decides the records: what a run is known by, and the config of a manifest."""

from __future__ import annotations

import dataclasses
from collections.abc import Mapping
from dataclasses import replace
from typing import Any

from pad_pipeline.engine.config import STAGE_CONFIGS, AnnotateConfig
from pad_pipeline.engine.costs import MODELS
from pad_pipeline.errors import UserError

# What shapes the run and not the records: it may differ when an interrupted run goes on.
_NOT_IDENTITY = ("layout", "fused", "costs", "in_flight", "hang_after_s", "max_failed_share")
_OF_SOURCE = (("tag", "column"), ("detect", "boxes"), ("detect", "box_format"))


def identity(config: AnnotateConfig, fingerprints: Mapping[str, str]) -> dict[str, Any]:
    """Everything that decides what the records of a run say, as plain JSON values.

    `fingerprints` gives the checksum of each stage's model. Two runs with equal identities on the
    same source and hardware write the same bytes. Model paths are left out: the checksum counts.
    """
    values = dataclasses.asdict(config)
    for name in _NOT_IDENTITY:
        del values[name]
    # However it was said: a flag, or what it follows from.
    implied = replace(config, tag=replace(config.tag, from_=None))
    named = ",".join(name for name in config.tag_origins if name != "boxes")
    values["tag"]["from_"] = None if implied.tag_origins == config.tag_origins else named
    values["detect"]["from_"] = "boxes" if config.takes_boxes else None
    for stage, name in _OF_SOURCE:  # what they give is compared image by image
        del values[stage][name]
    for stage in config.stages:
        del values[stage]["pool"]
        if stage in fingerprints:
            values[stage]["model"] = fingerprints[stage]
        elif stage in MODELS and stage not in config.models:
            values[stage]["model"] = None
    if "second" in fingerprints:
        values["detect"]["second"] = fingerprints["second"]
    return values


def earlier_default(name: str) -> Any:
    """What a field, such as `detect.group_by_size`, is for a run of a version that lacked it.

    It is the default: new fields have one that leaves the records as they were.
    """
    stage, _, field_name = name.rpartition(".")
    kind = STAGE_CONFIGS[stage] if stage else AnnotateConfig
    return next(field.default for field in dataclasses.fields(kind) if field.name == field_name)


def given_of(config: AnnotateConfig) -> dict[str, dict[str, Any]]:
    """Where what is given with the images is read from, by stage: what an identity leaves out."""
    found: dict[str, dict[str, Any]] = {}
    for stage, name in _OF_SOURCE:
        found.setdefault(stage, {})[name] = getattr(config.stages[stage], name)
    return found


def from_manifest(manifest: Mapping[str, Any]) -> AnnotateConfig:
    """The config that a data set was made with, by its manifest; the pools have their defaults.

    Raises `UserError` where another version of the program wrote the manifest.
    """
    values = dict(manifest["identity"])
    try:
        for name, kind in STAGE_CONFIGS.items():
            stage = dict(values[name])
            if name in manifest["models"]:
                stage["model"] = manifest["models"][name]["model"]
            stage |= manifest.get("given", {}).get(name, {})
            if name == "detect" and "second" in manifest["models"]:
                stage["second"] = manifest["models"]["second"]["model"]
            values[name] = kind(**stage)
        return AnnotateConfig(**values)
    except (KeyError, TypeError) as error:
        raise UserError(f"the manifest is of another version of this program ({error})") from error
