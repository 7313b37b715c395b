"""Failures of the disk and of object stores as messages for users."""

from __future__ import annotations

import errno
import sys
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

from pad_pipeline.errors import UserError, one_line
from pad_pipeline.storage.urls import local_path, protocol

# What backends raise beside OSError; looked up only where the backend has been imported.
_BACKEND_ERRORS = (
    ("botocore.exceptions", "BotoCoreError"),
    ("botocore.exceptions", "ClientError"),
    ("gcsfs.retry", "HttpError"),
    ("google.auth.exceptions", "GoogleAuthError"),
    ("aiohttp", "ClientError"),
)

_CREDENTIAL_ERRORS = {
    "InvalidAccessKeyId": "the server knows no such access key",
    "SignatureDoesNotMatch": "the secret key does not fit the access key",
    "ExpiredToken": "the session token has expired",
    "InvalidToken": "the session token is not valid",
    "TokenRefreshRequired": "the session token has expired",
    "RequestTimeTooSkewed": "this machine's clock is wrong",
}
"""What S3's codes for wrong credentials mean."""


class RetriesExhausted(OSError):
    """A request that failed until its retries were used up, though it might work later."""


def backend_errors() -> tuple[type[Exception], ...]:
    """What reading or writing may raise: OSError and the imported backends' own types."""
    found = [
        getattr(sys.modules[module], name)
        for module, name in _BACKEND_ERRORS
        if module in sys.modules
    ]
    return (OSError, *found)


@contextmanager
def user_errors(url: str, action: str) -> Iterator[None]:
    """Turns the failures that a user can put right into `UserError`: "cannot <action> <url>: …"."""
    try:
        yield
    except UserError:
        raise
    except (OSError, *backend_errors()) as error:
        raise UserError(
            f"cannot {action} {url}: {_describe(error, url)}{_other_path(error, url)}"
        ) from error


def s3_code(error: BaseException) -> str:
    """The code of S3's answer, such as "NoSuchKey" or "403", that led to `error`; "" without."""
    response = _response(error)
    return str(response.get("Error", {}).get("Code", ""))


def is_bucket_missing(error: BaseException) -> bool:
    """Whether S3's error is that the bucket is missing, rather than the file in it."""
    source = error if hasattr(error, "operation_name") else error.__cause__
    operation = getattr(source, "operation_name", "")
    code = s3_code(error)
    return code == "NoSuchBucket" or (code in ("404", "NotFound") and operation == "HeadBucket")


def _response(error: BaseException) -> dict[str, Any]:
    for candidate in (error, error.__cause__):
        response = getattr(candidate, "response", None)
        if isinstance(response, dict):
            return response
    return {}


def _describe(error: BaseException, url: str) -> str:
    code = getattr(error, "errno", None)
    if isinstance(error, RetriesExhausted):
        return str(error)
    if is_bucket_missing(error):
        return f"there is no bucket {url.split('://', 1)[-1].split('/', 1)[0]!r} there"
    if isinstance(error, FileNotFoundError):
        return "no such bucket or file" if local_path(url) is None else "no such file or folder"
    if code == errno.ENOSPC or code == errno.EDQUOT:
        return "no space is left on the device: free some or choose another place"
    if s3_code(error) in _CREDENTIAL_ERRORS:
        return (
            f"wrong credentials, {_CREDENTIAL_ERRORS[s3_code(error)]} (AWS_ACCESS_KEY_ID, "
            "AWS_SECRET_ACCESS_KEY, AWS_SESSION_TOKEN, AWS_PROFILE)"
        )
    if isinstance(error, PermissionError):
        if local_path(url) is None:
            return "access denied: check the credentials and what they may do there"
        return "permission denied: check its owner and mode, or the account's rights"
    if code == errno.EROFS:
        return "the file system is read-only: choose another place"
    if isinstance(error, (NotADirectoryError, FileExistsError)):
        return "a part of this path is a file, not a folder"
    if isinstance(error, IsADirectoryError):
        return "it is a folder, not a file"
    if code == errno.ENAMETOOLONG:
        return "the name is too long"
    if "credential" in f"{type(error).__name__} {error}".lower():
        return f"no valid credentials: set them up for {protocol(url)}:// ({error})"
    return one_line(error)


def _other_path(error: BaseException, url: str) -> str:
    """The file or folder at fault where it is not `url` itself, such as one below it."""
    name = str(getattr(error, "filename", None) or "")
    same = not name or name == url or Path(name) == local_path(url) or "/.tmp-" in name
    return "" if same else f" ({name})"
