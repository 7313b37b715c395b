"""Errors of Ray for people: their cause, and whether a retry can help."""

from __future__ import annotations

import re

import ray.exceptions

from pad_pipeline.errors import Setting, UserError

# "module.NameError: message", the line that ends a traceback
_ERROR_LINE = re.compile(r"^(?:[\w.]+\.)?(\w+(?:Error|Exception|Died|Exit)): (.+)$", re.MULTILINE)
_WRAPPERS = ("UserCodeException", "SystemException", "RayTaskError")


def to_user_error(error: ray.exceptions.RayError) -> UserError:
    """The error that ended the stream, as its user should read it."""
    return UserError(
        f"a worker failed: {describe_cause(error)}. What was finished is kept and the same command "
        "continues; ",
        Setting("ray_logs", True),
        " shows the tracebacks",
    )


def is_deterministic(error: ray.exceptions.RayError) -> bool:
    """Whether it is an error of the code that the workers run, and not of the cluster."""
    cause = getattr(error, "cause", None)
    return isinstance(error, ray.exceptions.RayTaskError) and not isinstance(
        cause, ray.exceptions.RayError
    )


def describe_cause(error: Exception) -> str:
    """Type and message of an error's cause: the last of its tracebacks that is not Ray's own."""
    # Ray puts the causes above and its own wrapping of them below.
    errors = [match.groups() for match in _ERROR_LINE.finditer(str(error))]
    causes = [(name, message) for name, message in errors if name not in _WRAPPERS]
    name, message = causes[-1] if causes else (type(error).__name__, str(error).splitlines()[0])
    return (message if name == UserError.__name__ else f"{name}: {message}").rstrip(".")
