"""Requests that get no result: the one exception for them, and its JSON."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import Any


class ApiError(Exception):
    """An answer other than 200; `cause` is for programs, `message` one sentence for people."""

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
class ErrorAnswer:
    """The body of every answer that is an error."""

    error: ErrorDetail


@dataclass(frozen=True)
class Documented:
    """A status with which a route answers, for the OpenAPI document."""

    status: int
    description: str
    headers: Mapping[str, Any] = field(default_factory=dict)


RETRY_AFTER = {"Retry-After": {"description": "Seconds to wait.", "schema": {"type": "integer"}}}

ERRORS = (
    Documented(400, "Not an image, a damaged one, or a body that cannot be read."),
    Documented(401, "No API key where the service asks for one."),
    Documented(403, "Another API key than the service's."),
    Documented(408, "The body did not arrive in time."),
    Documented(413, "The body is larger, or holds more images, than the service takes."),
    Documented(415, "A body of a type that holds no image."),
    Documented(422, "A parameter that is unknown or out of range."),
    Documented(429, "The queue is full.", RETRY_AFTER),
    Documented(500, "A stage failed on this image."),
    Documented(503, "The models are being loaded, or the service is about to end.", RETRY_AFTER),
    Documented(504, "No result within the service's time limit."),
)
"""What the routes that annotate may answer besides 200."""


def error_json(cause: str, message: str) -> dict[str, Any]:
    """The body of an answer that is an error."""
    return {"error": {"cause": cause, "message": message}}


def documented(*statuses: int) -> dict[int | str, dict[str, Any]]:
    """The named errors as FastAPI takes them for its document; all of them without a name."""
    return {
        error.status: {
            "model": ErrorAnswer,
            "description": error.description,
            **({"headers": dict(error.headers)} if error.headers else {}),
        }
        for error in ERRORS
        if not statuses or error.status in statuses
    }
