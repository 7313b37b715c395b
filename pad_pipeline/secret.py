"""Secrets that a command is given in a file or a variable: its arguments are seen in lists of
processes."""

from __future__ import annotations

import os
from pathlib import Path

from pad_pipeline.errors import UserError


def read_secret(name: str, file: str | None, variable: str) -> str | None:
    """The first line of a file, else the environment's variable; None where there is neither.

    `name` is what it is called in messages, with its article: "an API key". Raises `UserError`
    where the file cannot be read, or where it is empty or not plain ASCII without spaces, as
    headers and cookies hold it.
    """
    if file is None:
        secret, place = os.environ.get(variable), f"the variable {variable}"
        if secret is None:
            return None
    else:
        place = file
        try:
            secret = Path(file).read_text(encoding="utf-8").partition("\n")[0]
        except (OSError, UnicodeDecodeError) as error:
            reason = error.strerror if isinstance(error, OSError) else "it is not text"
            raise UserError(f"cannot read {name} from {file} ({reason})") from error
    secret = secret.strip()
    if not secret or not secret.isascii() or not secret.isprintable() or " " in secret:
        raise UserError(
            f"expected {name} of printable ASCII characters without spaces in {place}, found "
            f"{'nothing' if not secret else 'other characters'}"
        )
    return secret
