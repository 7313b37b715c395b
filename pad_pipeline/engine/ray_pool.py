"""A pool of Ray actors for work that comes in pieces: it ends with what it was started for."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from typing import Any

import ray
import ray.exceptions
from ray.util import ActorPool

from pad_pipeline.engine.ray_errors import to_user_error
from pad_pipeline.errors import UserError


@contextmanager
def actor_pool(actors: Sequence[Any]) -> Iterator[ActorPool]:
    """The pool of these actors; they are ended with it, and what they reserve is free again.

    Raises the `UserError` that one of them raised, and one where Ray itself cannot go on.
    """
    try:
        yield ActorPool(list(actors))
    except ray.exceptions.RayTaskError as error:
        cause = getattr(error, "cause", None)
        raise cause if isinstance(cause, UserError) else to_user_error(error) from error
    except ray.exceptions.RayError as error:
        raise to_user_error(error) from error
    finally:
        # The traceback of an error that somebody keeps would keep them too.
        for actor in actors:
            ray.kill(actor)
