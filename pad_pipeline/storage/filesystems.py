"""The fsspec file systems behind remote URLs, and what they can do."""

from __future__ import annotations

from typing import Any

import fsspec

from pad_pipeline.errors import UserError
from pad_pipeline.storage.errors import is_bucket_missing
from pad_pipeline.storage.urls import protocol

# A put either happens whole or not at all there; elsewhere a temporary name is moved into place.
_ATOMIC_PUT = frozenset(
    {"s3", "s3a", "gs", "gcs", "az", "abfs", "abfss", "adl", "oci", "oss", "r2", "hf", "memory"}
)

# Our own extras for protocols whose package does not come with the base install.
_EXTRAS = {"s3": "s3", "s3a": "s3", "gs": "gcs", "gcs": "gcs"}


def filesystem(url: str) -> tuple[Any, str]:
    """The fsspec file system of a remote `url` and the path in it; `UserError` where none fits."""
    name = protocol(url)
    try:
        if name in ("s3", "s3a"):
            from pad_pipeline.storage.s3 import open_s3

            fs = open_s3()
            return fs, str(fs._strip_protocol(url))
        # Without a listing cache, since other processes write to the same place.
        return fsspec.core.url_to_fs(url, use_listings_cache=False)
    except ImportError as error:
        extra = _EXTRAS.get(name)
        fix = f"pip install 'pad-pipeline[{extra}]'" if extra else "install the package it names"
        raise UserError(
            f"{name}:// needs a package that is not installed ({error}): {fix}"
        ) from error
    except ValueError as error:
        raise UserError(
            f"expected a local path or an fsspec URL such as s3://bucket/path, found {url!r}: "
            f"{error}"
        ) from error


def remote_kind(url: str) -> str | None:
    """What a remote URL is, "file" or "directory"; None where nothing is there.

    Not by `fs.exists` and `fs.isdir`, which take any failure for "no".
    """
    fs, remote = filesystem(url)
    try:
        return fs.info(remote)["type"]
    except FileNotFoundError as error:
        if is_bucket_missing(error):
            raise
        return None


def puts_are_atomic(url: str) -> bool:
    """Whether a file that is sent there appears whole or not at all."""
    return protocol(url) in _ATOMIC_PUT
