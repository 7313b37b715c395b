"""Models of the Hugging Face Hub as local snapshots; without a network, what is in the cache."""

from __future__ import annotations

import os
from pathlib import Path

from pad_pipeline.errors import UserError

TIMEOUT_S = 10
"""How long the hub may take to answer which commit is the newest."""

SETTINGS = ("*.json", "*.txt")
"""Files of a repository that are fetched with the weights."""

WEIGHTS = ("*.safetensors", "*.bin")
"""Weights in the order of preference; one kind is fetched."""


def cache_folder() -> Path:
    """The folder in which huggingface_hub keeps what it downloads."""
    home = Path(os.environ.get("HF_HOME", Path.home() / ".cache/huggingface")).expanduser()
    return Path(os.environ.get("HF_HUB_CACHE", home / "hub")).expanduser()


def cached_snapshot(hub_id: str) -> Path | None:
    """The snapshot folder that the cache takes for the newest; it need not be complete."""
    repository = cache_folder() / f"models--{hub_id.replace('/', '--')}"
    main = repository / "refs" / "main"
    commit = main.read_text().strip() if main.is_file() else ""
    snapshot = repository / "snapshots" / commit
    return snapshot if commit and snapshot.is_dir() else None


def commit_of(hub_id: str) -> str:
    """The commit that `snapshot_of` gives: the newest, without a network the cached one.

    Raises `UserError` where neither the hub nor the cache has the model.
    """
    commit = _newest_commit(hub_id)
    if commit is None:
        commit = _from_cache(hub_id).name
    return commit


def snapshot_of(hub_id: str) -> Path:
    """The local folder of a model: settings and weights, downloaded where they are not there yet.

    Raises `UserError` where neither the hub nor the cache has the model.
    """
    commit = _newest_commit(hub_id)
    if commit is None:
        return _from_cache(hub_id)
    from huggingface_hub import snapshot_download

    try:
        for weights in WEIGHTS:
            folder = snapshot_download(
                hub_id, allow_patterns=[*SETTINGS, weights], cache_dir=cache_folder()
            )
            if any(Path(folder).glob(weights)):
                return Path(folder)
    except OSError as error:
        raise UserError(
            f"{hub_id} could not be downloaded: {str(error).strip().splitlines()[0]}; check the "
            "network and free disk space, then rerun the command to resume"
        ) from error
    raise UserError(f"{hub_id} holds no weights ({', '.join(WEIGHTS)}); give another model")


def _from_cache(hub_id: str) -> Path:
    folder = cached_snapshot(hub_id)
    if folder is None or not any(any(folder.glob(weights)) for weights in WEIGHTS):
        raise UserError(
            f"{hub_id} is not in the cache ({cache_folder()}) and the Hugging Face Hub cannot be "
            "reached; check the network, or download the model elsewhere and give its directory"
        )
    return folder


def _newest_commit(hub_id: str) -> str | None:
    """The newest commit by one HEAD request; None where the hub cannot be reached.

    `snapshot_download` alone would retry every file for half a minute where there is no network.
    """
    from huggingface_hub import constants, get_hf_file_metadata, hf_hub_url
    from huggingface_hub.errors import HfHubHTTPError, HTTPError

    if constants.HF_HUB_OFFLINE:
        return None
    try:
        url = hf_hub_url(hub_id, "config.json")
        return get_hf_file_metadata(url, timeout=TIMEOUT_S).commit_hash
    except HfHubHTTPError as error:
        status = error.response.status_code
        if status in (401, 403, 404):
            raise UserError(
                f"model {hub_id!r} was not found or you have no access to it (HTTP {status}); "
                "check the name, or log in where it is a private one (HF_TOKEN)"
            ) from error
        return None
    except (HTTPError, OSError):
        return None
