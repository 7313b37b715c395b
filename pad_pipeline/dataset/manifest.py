"""`_manifest.json` of a data set of PAD records: its name, what it must hold, reading, writing."""

from __future__ import annotations

import json
from collections.abc import Collection, Mapping
from typing import Any, Literal

from pad_pipeline import storage
from pad_pipeline.errors import UserError
from pad_pipeline.records import SCHEMA_VERSION, SCHEMAS

MANIFEST = "_manifest.json"
DATA_FILES = ".huggingface.yaml"
"""Says to Hugging Face's `load_dataset` which files are shards. Unlike a card, README.md, it is no
shard to pyarrow and pandas, which leave hidden files out."""
_DATA_FILES = """\
configs:
- config_name: default
  data_files:
  - split: train
    path: "*.parquet"
"""
RUN = "_run"
"""The folder of the files of an unfinished run, beside the manifest."""
FORMAT = "pad"
IMPORTED = "imported"
"""The key under which the manifest of imported labels says how they were made."""

State = Literal["running", "finished", "unknown"]


def manifest_url(dataset_url: str) -> str:
    """Where the manifest of the data set at `dataset_url` lies."""
    return storage.join(dataset_url, MANIFEST)


def read_manifest(dataset_url: str) -> dict[str, Any]:
    """The data set's manifest, {} where there is none.

    Raises `UserError` where it is unreadable or not the manifest of a PAD data set of this version.
    """
    url = manifest_url(dataset_url)
    if not storage.exists(url):
        return {}
    try:
        manifest = json.loads(storage.read_bytes(url))
    except (ValueError, RecursionError) as error:
        raise UserError(f"{url} is not valid JSON: {error}") from error
    if not isinstance(manifest, dict) or manifest.get("format") != FORMAT:
        raise UserError(
            f'{url} is not the manifest of a PAD data set: "format" is not "{FORMAT}"; choose '
            "another folder"
        )
    version = manifest.get("schema_version")
    if not isinstance(version, int) or version not in SCHEMAS:
        raise UserError(
            f"{url} has schema version {version}, and this release supports versions up to "
            f"{SCHEMA_VERSION}: use the release that wrote it, or choose another folder"
        )
    shards = manifest.get("shards", [])
    if not isinstance(shards, list) or not all(
        isinstance(shard, dict) and isinstance(shard.get("name"), str) for shard in shards
    ):
        raise UserError(f'{url} is damaged: "shards" is not a list of objects with a "name"')
    return manifest


def is_dataset(dataset_url: str, names: Collection[str]) -> bool:
    """Whether a folder with these entries is a data set of this program, begun or finished."""
    if RUN in names and storage.exists(storage.join(dataset_url, RUN, "images.parquet")):
        return True
    if MANIFEST not in names:
        return False
    try:
        return bool(read_manifest(dataset_url))
    except UserError:  # somebody else's file of this name
        return False


def require_manifest(dataset_url: str) -> dict[str, Any]:
    """As `read_manifest`, for folders that must be data sets; `UserError` where there is none."""
    manifest = read_manifest(dataset_url)
    if not manifest:
        raise UserError(f"{dataset_url} is not a data set of this program: it has no {MANIFEST}")
    return manifest


def require_run(dataset_url: str) -> dict[str, Any]:
    """As `require_manifest`, for what `annotate` wrote; `UserError` for labels from elsewhere."""
    manifest = require_manifest(dataset_url)
    check_run(dataset_url, manifest)
    return manifest


def check_run(dataset_url: str, manifest: Mapping[str, Any]) -> None:
    """Raise `UserError` for the manifest of a data set that was imported and not annotated."""
    if IMPORTED in manifest:
        raise UserError(
            f"{dataset_url} was not annotated: it holds labels that were imported from "
            f"{manifest.get('source')}; choose another folder"
        )


def write_manifest(dataset_url: str, manifest: Mapping[str, Any]) -> None:
    """Writes the manifest, whole or not at all; a finished data set's is the last of its files."""
    shards = [str(shard["name"]) for shard in manifest.get("shards", [])]
    if state_of(manifest) == "finished" and all(name.endswith(".parquet") for name in shards):
        storage.write_atomic(storage.join(dataset_url, DATA_FILES), _DATA_FILES.encode())
    storage.write_json(manifest_url(dataset_url), manifest)


def state_of(manifest: Mapping[str, Any]) -> State:
    """The manifest's "state", "unknown" where it has none or another."""
    state = manifest.get("state")
    return state if state in ("running", "finished") else "unknown"
