"""Models of the Hugging Face Hub as local snapshots; without a network, what is in the cache."""

from __future__ import annotations

import os
import shutil
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

from pad_pipeline.errors import UserError, first_line

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
    return _download(hub_id, cache_dir=cache_folder())


def download_model(hub_id: str, folder: Path) -> None:
    """Settings and weights of the newest commit into a folder, which may hold a part of them.

    Raises `UserError` where that fails; what has arrived stays, and the next call goes on from it.
    """
    _download(hub_id, local_dir=folder)
    _forget_bookkeeping(folder)


def download_file(hub_id: str, file: str, folder: Path) -> Path:
    """One file of the newest commit into a folder, as `download_model`; its path."""
    from huggingface_hub import hf_hub_download

    with _hub_errors(hub_id):
        return Path(hf_hub_download(hub_id, file, local_dir=folder))


def _download(hub_id: str, cache_dir: Path | None = None, local_dir: Path | None = None) -> Path:
    from huggingface_hub import snapshot_download

    with _hub_errors(hub_id):
        for weights in WEIGHTS:
            folder = snapshot_download(
                hub_id,
                allow_patterns=[*SETTINGS, weights],
                cache_dir=cache_dir,
                local_dir=local_dir,
            )
            if any(Path(folder).glob(weights)):
                return Path(folder)
    raise UserError(f"{hub_id} holds no weights ({', '.join(WEIGHTS)}); give another model")


def _forget_bookkeeping(folder: Path) -> None:
    """Without huggingface_hub's notes for an interrupted download."""
    shutil.rmtree(folder / ".cache", ignore_errors=True)


@contextmanager
def _hub_errors(hub_id: str) -> Iterator[None]:
    """What goes wrong in a download, for the user."""
    from huggingface_hub import constants
    from huggingface_hub.errors import HfHubHTTPError, HTTPError, LocalEntryNotFoundError

    try:
        yield
    except LocalEntryNotFoundError as error:
        raise UserError(
            f"{hub_id} could not be downloaded: {constants.ENDPOINT} cannot be reached; check the "
            "network and rerun the command to resume, or name a mirror of the hub (HF_ENDPOINT)"
        ) from error
    except (OSError, HTTPError) as error:
        if isinstance(error, HfHubHTTPError) and (refusal := _refusal(hub_id, error)):
            raise refusal from error
        raise UserError(
            f"{hub_id} could not be downloaded: {first_line(error).rstrip('.')}; check the "
            "network and free disk space, then rerun the command to resume"
        ) from error


def _refusal(hub_id: str, error: Exception) -> UserError | None:
    """What to do where the hub does not give a model to this user; None: it has other troubles."""
    from huggingface_hub import constants
    from huggingface_hub.errors import GatedRepoError

    status = error.response.status_code  # type: ignore[attr-defined]
    if isinstance(error, GatedRepoError):
        return UserError(
            f"{hub_id} is given to those alone who have accepted its terms (HTTP {status}): accept "
            f"them at {constants.ENDPOINT}/{hub_id}, then log in by `hf auth login` or set HF_TOKEN"
        )
    if status in (401, 403, 404):
        return UserError(
            f"model {hub_id!r} was not found or you have no access to it (HTTP {status}); "
            "check the name, or log in where it is a private one (HF_TOKEN)"
        )
    return None


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
        if refusal := _refusal(hub_id, error):
            raise refusal from error
        return None
    except (HTTPError, OSError):
        return None
