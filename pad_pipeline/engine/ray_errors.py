"""Errors of Ray in words for people: their cause, and whether a retry can help."""

from __future__ import annotations

import re

import ray.exceptions

from pad_pipeline.errors import UserError

# "module.NameError: message", the line that ends a traceback
_ERROR_LINE = re.compile(r"^(?:[\w.]+\.)?(\w+(?:Error|Exception|Died|Exit)): (.+)$", re.MULTILINE)
_WRAPPERS = ("UserCodeException", "SystemException", "RayTaskError")


def to_user_error(error: ray.exceptions.RayError) -> UserError:
    """What a person needs of an error that ended the stream."""
    return UserError(
        f"a worker failed: {reason_of(error)}. What was finished is kept and the same command "
        "continues; --debug --ray-logs shows the whole story"
    )


def is_deterministic(error: ray.exceptions.RayError) -> bool:
    """Whether it is an error of the code that the workers run, and not of the cluster."""
    cause = getattr(error, "cause", None)
    return isinstance(error, ray.exceptions.RayTaskError) and not isinstance(
        cause, ray.exceptions.RayError
    )


def reason_of(error: Exception) -> str:
    """What an error of Ray's says happened: the last line of its story that is not Ray's own."""
    # Ray puts the causes above and its own wrapping of them below.
    found = [match.groups() for match in _ERROR_LINE.finditer(str(error))]
    told = [(name, message) for name, message in found if name not in _WRAPPERS]
    name, message = told[-1] if told else (type(error).__name__, str(error).splitlines()[0])
    return (message if name == UserError.__name__ else f"{name}: {message}").rstrip(".")
