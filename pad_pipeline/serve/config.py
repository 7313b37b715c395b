"""The settings of the service beyond those of a run: where it listens and what it accepts."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Annotated

from annotated_types import Gt, Interval

from pad_pipeline.limits import AtLeastOne, check_limits
from pad_pipeline.secret import read_secret

API_KEY_VARIABLE = "PAD_API_KEY"


@dataclass(frozen=True, kw_only=True)
class ServiceConfig:
    """The HTTP side of the service."""

    host: str = "127.0.0.1"
    """Address to listen at; 0.0.0.0 lets other machines in."""
    port: Annotated[int, Interval(ge=0, le=65535)] = 8000
    """Port to listen at."""
    max_queued: AtLeastOne = 128
    """Images that are queued at a time; further requests are refused (429)."""
    max_body_bytes: AtLeastOne = 64 * 1024 * 1024
    """Larger requests are refused (413) before they are read."""
    batch_wait_s: Annotated[float, Interval(ge=0, lt=60)] = 0.005
    """Time that the first image of a batch waits for others."""
    timeout_s: Annotated[float, Gt(0)] = 300.0
    """An image without a result after this many seconds is answered with an error (504)."""
    api_key_file: str | None = None
    """File whose first line is the key that requests must bring; without it PAD_API_KEY, else
    no key is required."""

    def __post_init__(self) -> None:
        """Refuse values that cannot work."""
        check_limits(self)


def read_api_key(config: ServiceConfig) -> str | None:
    """The key that requests must bring, None where none is required.

    Raises `UserError` where the file cannot be read or the key is empty or not plain ASCII.
    """
    return read_secret("an API key", config.api_key_file, API_KEY_VARIABLE)
