"""The settings of the service beyond those of a run: where it listens and what it accepts."""

from __future__ import annotations

import os
from dataclasses import dataclass
from pathlib import Path

from pad_pipeline.errors import UserError

API_KEY_VARIABLE = "PAD_API_KEY"


@dataclass(frozen=True, kw_only=True)
class ServiceConfig:
    """The HTTP side of the service."""

    host: str = "127.0.0.1"
    """Address to listen at; 0.0.0.0 lets other machines in."""
    port: int = 8000
    """Port to listen at."""
    max_queued: int = 128
    """Images that are queued at a time; further requests are refused (429)."""
    max_body_bytes: int = 64 * 1024 * 1024
    """Larger requests are refused (413) before they are read."""
    batch_wait_s: float = 0.005
    """Time that the first image of a batch waits for others."""
    timeout_s: float = 300.0
    """An image without a result after so many seconds is answered with an error (504)."""
    api_key_file: str | None = None
    """File whose first line is the key that requests must bring; without it PAD_API_KEY, else
    no key is required."""

    def __post_init__(self) -> None:
        """Refuse values that cannot work."""
        if not 0 <= self.port <= 65535:
            raise UserError(f"--port must lie between 0 and 65535, not {self.port}")
        for name, count in (
            ("--max-queued", self.max_queued),
            ("--max-body-bytes", self.max_body_bytes),
        ):
            if count < 1:
                raise UserError(f"{name} must be at least 1, not {count}")
        if not 0 <= self.batch_wait_s < 60:
            raise UserError(f"--batch-wait-s must lie between 0 and 60, not {self.batch_wait_s}")
        if not self.timeout_s > 0:
            raise UserError(f"--timeout-s must be positive, not {self.timeout_s}")


def read_api_key(config: ServiceConfig) -> str | None:
    """The key that requests must bring, None where none is required.

    Raises `UserError` where the file cannot be read or the key is empty or not plain ASCII.
    """
    if config.api_key_file is None:
        key, place = os.environ.get(API_KEY_VARIABLE), f"the variable {API_KEY_VARIABLE}"
        if key is None:
            return None
    else:
        place = config.api_key_file
        try:
            key = Path(place).read_text(encoding="utf-8").partition("\n")[0]
        except (OSError, UnicodeDecodeError) as error:
            reason = error.strerror if isinstance(error, OSError) else "it is not text"
            raise UserError(f"cannot read the API key from {place} ({reason})") from error
    key = key.strip()
    if not key or not key.isascii() or not key.isprintable() or " " in key:
        raise UserError(
            f"expected an API key of printable ASCII characters without spaces in {place}, found "
            f"{'nothing' if not key else 'others'}"
        )
    return key
