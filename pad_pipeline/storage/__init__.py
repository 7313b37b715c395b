"""Files on the local disk or behind any fsspec URL: join, list, read, write atomically, remove."""

from __future__ import annotations

from pad_pipeline.storage.atomic import (
    check_writable,
    download,
    upload,
    write_atomic,
    write_json,
)
from pad_pipeline.storage.errors import RetriesExhausted, backend_errors, user_errors
from pad_pipeline.storage.files import (
    exists,
    is_folder,
    list_files,
    open_read,
    read_bytes,
    remove,
    remove_tree,
    version,
)
from pad_pipeline.storage.filesystems import filesystem
from pad_pipeline.storage.urls import absolute, join, local_path, protocol

__all__ = [
    "RetriesExhausted",
    "absolute",
    "backend_errors",
    "check_writable",
    "download",
    "exists",
    "filesystem",
    "is_folder",
    "join",
    "list_files",
    "local_path",
    "open_read",
    "protocol",
    "read_bytes",
    "remove",
    "remove_tree",
    "upload",
    "user_errors",
    "version",
    "write_atomic",
    "write_json",
]
