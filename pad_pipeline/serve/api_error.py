"""The one exception for requests that get no result, and its JSON."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import Any


class ApiError(Exception):
    """A status other than 200; `cause` is for programs, `message` one sentence for people."""

    def __init__(
        self, status: int, cause: str, message: str, headers: Mapping[str, str] | None = None
    ) -> None:
        super().__init__(message)
        self.status, self.cause, self.message = status, cause, message
        self.headers = dict(headers or {})


@dataclass(frozen=True)
class ErrorDetail:
    """Why a request got no result."""

    cause: str
    message: str


@dataclass(frozen=True)
class ErrorResponse:
    """The body of every error."""

    error: ErrorDetail


@dataclass(frozen=True)
class DocumentedError:
    """A status that a route may answer with, for the OpenAPI document."""

    status: int
    description: str
    headers: Mapping[str, Any] = field(default_factory=dict)


RETRY_AFTER = {"Retry-After": {"description": "Seconds to wait.", "schema": {"type": "integer"}}}

ERRORS = (
    DocumentedError(400, "Not an image, a damaged one, or a body that cannot be read."),
    DocumentedError(401, "No API key where the service requires one."),
    DocumentedError(403, "Another API key than the service's."),
    DocumentedError(408, "The body did not arrive in time."),
    DocumentedError(413, "The body is larger, or holds more images, than the service takes."),
    DocumentedError(415, "A body of a type that holds no image."),
    DocumentedError(422, "A parameter that is unknown or out of range."),
    DocumentedError(429, "The queue is full.", RETRY_AFTER),
    DocumentedError(500, "A stage failed on this image."),
    DocumentedError(
        503, "The models are being loaded, or the service is shutting down.", RETRY_AFTER
    ),
    DocumentedError(504, "No result within the service's time limit."),
)
"""What the routes that annotate may answer besides 200."""


def error_json(cause: str, message: str) -> dict[str, Any]:
    """The body of an error."""
    return {"error": {"cause": cause, "message": message}}


def error_responses(*statuses: int) -> dict[int | str, dict[str, Any]]:
    """The named errors as FastAPI takes them for its document; all of them without a name."""
    return {
        error.status: {
            "model": ErrorResponse,
            "description": error.description,
            **({"headers": dict(error.headers)} if error.headers else {}),
        }
        for error in ERRORS
        if not statuses or error.status in statuses
    }
