"""Files from plain addresses and npm packages: resumed where they were cut, checked, then named."""

from __future__ import annotations

import errno
import hashlib
import os
import shutil
import subprocess
from pathlib import Path
from tempfile import TemporaryDirectory

from pad_pipeline.errors import Setting, UserError, first_line

PARTIAL = ".part"
"""What the name of a file ends with until it is complete."""

NPM = "npm:"
"""What the source of an npm package begins with; its name and version follow."""

_BLOCK = 1 << 20


def download(url: str, path: Path, checksum: str) -> None:
    """The file at an http address as `path`; `checksum` is the SHA-256 that it must have.

    What an earlier call left beside it is continued, cut connections are taken up again, and a
    server that cannot continue sends it anew. Raises `UserError` where the server refuses or keeps
    failing, the disk is full, or another file arrives.
    """
    from huggingface_hub.errors import HfHubHTTPError, HTTPError
    from huggingface_hub.file_download import http_get

    path.parent.mkdir(parents=True, exist_ok=True)
    partial = path.with_name(path.name + PARTIAL)
    try:
        with partial.open("ab") as file:
            http_get(url, file, resume_size=file.tell(), displayed_filename=path.name)
    except HfHubHTTPError as error:
        status = error.response.status_code
        if status != 416:  # nothing is left to send: the checksum will tell
            raise UserError(
                f"{url} cannot be downloaded (HTTP {status}); check the address and your network, "
                "or download the file elsewhere and name it (",
                Setting("from", "FILE"),
                ")",
            ) from error
    except (OSError, HTTPError) as error:
        raise _broken(url, partial, error) from error
    check_file(partial, checksum, f"what came from {url}", remove=True)
    os.replace(partial, path)


def npm_program() -> str | None:
    """The path of the program npm; None where it is not installed."""
    return shutil.which("npm")


def pack_npm(package: str, path: Path, checksum: str) -> None:
    """The archive of an npm package (`name@version`) as `path`, by the program npm.

    It asks the registry that it is configured for, and downloads again what was cut. Raises
    `UserError` where there is no npm, it fails, or another archive arrives.
    """
    npm = npm_program()
    if npm is None:
        raise UserError(
            f"the package {package} is fetched by the program npm, which is not installed; install "
            "Node.js, or download the package elsewhere and name the file (",
            Setting("from", "FILE"),
            ")",
        )
    path.parent.mkdir(parents=True, exist_ok=True)
    with TemporaryDirectory(dir=path.parent) as folder:
        words = [npm, "pack", package]  # into the working folder
        done = subprocess.run(words, capture_output=True, text=True, cwd=folder, check=False)
        archives = list(Path(folder).glob("*.tgz"))
        if done.returncode or len(archives) != 1:
            told = [line for line in (done.stderr + done.stdout).splitlines() if "error" in line]
            reason = told[0].strip() if told else f"it ended with code {done.returncode}"
            raise UserError(
                f"npm cannot fetch {package}: {reason}; check the network and `npm config get "
                "registry`, or download the package elsewhere and name the file (",
                Setting("from", "FILE"),
                ")",
            )
        check_file(archives[0], checksum, f"the npm package {package}")
        os.replace(archives[0], path)


def check_file(path: Path, checksum: str, what: str, *, remove: bool = False) -> None:
    """Raise `UserError` where the file's SHA-256 is another; with `remove`, delete it then."""
    with path.open("rb") as file:
        found = hashlib.file_digest(file, "sha256").hexdigest()
    if found == checksum:
        return
    if remove:
        path.unlink()
    raise UserError(
        f"{what} is not the released file: its SHA-256 is {found[:12]}… instead of "
        f"{checksum[:12]}…; "
        + (
            "it was removed, rerun the command or use another source"
            if remove
            else "download it again, or convert it by `pad-pipeline models convert` if you trust it"
        )
    )


def check_space(folder: Path, num_bytes: float) -> None:
    """Raise `UserError` where a download of that size does not fit on the folder's disk."""
    free = shutil.disk_usage(folder).free
    if free < num_bytes:
        raise UserError(
            f"{folder} has {free / 1e9:.1f} GB of free space, and {num_bytes / 1e9:.1f} GB are "
            "needed; free some, or name a folder on another disk (PAD_MODELS)"
        )


def _broken(url: str, partial: Path, error: Exception) -> UserError:
    arrived = partial.stat().st_size / 1e6 if partial.is_file() else 0
    if isinstance(error, OSError) and error.errno == errno.ENOSPC:
        return UserError(
            f"no space is left for {partial} ({arrived:,.0f} MB of it are there); free some and "
            "rerun the command to resume, or name a folder on another disk (PAD_MODELS)"
        )
    return UserError(
        f"{url} was cut or cannot be reached ({first_line(error).rstrip('.')}); {arrived:,.0f} MB "
        "are kept: check the network and rerun the command to resume"
    )
