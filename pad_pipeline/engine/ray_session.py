"""Joining the Ray cluster that is there, or starting Ray on this machine, quietly."""

from __future__ import annotations

import json
import logging
import os
import signal
import socket
import threading
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from typing import Any

import ray
import ray.exceptions
from ray._common.utils import get_default_ray_temp_dir
from ray._private import ray_constants
from ray._private import worker as ray_worker
from ray._private.services import find_bootstrap_address

from pad_pipeline.errors import Setting, UserError, first_line
from pad_pipeline.storage.s3_credentials import portable_environment

logger = logging.getLogger(__name__)

CONNECT_TIMEOUT_S = 10.0

_LONGEST_TEMP_DIR = 40
"""Bytes of Ray's folder for files that leave room for the names of its sockets below it, which may
have 107 in all (103 on macOS)."""
_SHORT_TEMP_DIRS = ("/tmp", "/var/tmp", "/dev/shm")

_HTTP2_SETTINGS = b"\x04"
_HTTP2_HELLO = b"PRI * HTTP/2.0\r\n\r\nSM\r\n\r\n" + bytes(3) + _HTTP2_SETTINGS + bytes(5)


@dataclass(frozen=True, slots=True)
class Cluster:
    """What a joined cluster has."""

    num_cpus: float
    num_gpus: float


def join(address: str | None, *, verbose: bool) -> Cluster | None:
    """Join the cluster at `address`, or RAY_ADDRESS, or the one of `ray start` on this machine.

    Returns None where none is named (or "local" is) and none was started; a Ray that another
    program started for itself is left alone. Raises `UserError` where the named one cannot be
    reached. A Ray that is already initialised in this process is taken as it is.
    """
    named = address or os.environ.get("RAY_ADDRESS")
    if not ray.is_initialized():
        if named == "local":
            return None
        place = named or find_bootstrap_address(None)
        if named:
            _check_address(named)
        elif place is None or not _is_listening(place):
            return None
        try:
            _init(address=named, **_store_access(), **_quiet(verbose))
        except (ConnectionError, RuntimeError, ValueError, ray.exceptions.RayError) as error:
            raise _not_reached(
                f"{place}",
                f"{first_line(error)}; a cluster with tokens needs RAY_AUTH_MODE=token and its "
                "RAY_AUTH_TOKEN",
            ) from error
    resources = ray.cluster_resources()
    return Cluster(num_cpus=resources.get("CPU", 0.0), num_gpus=resources.get("GPU", 0.0))


def _store_access() -> dict:
    """Options of `ray.init` that give workers of another machine the driver's access to S3.

    None where none are set, as workers then start sooner. What the submitted job sets itself is
    left out: the workers have it, and Ray refuses a variable that is set twice.
    """
    job = json.loads(os.environ.get("RAY_JOB_CONFIG_JSON_ENV_VAR") or "{}")
    theirs = (job.get("runtime_env") or {}).get("env_vars") or {}
    wanted = {name: value for name, value in portable_environment().items() if name not in theirs}
    return {"runtime_env": {"env_vars": wanted}} if wanted else {}


def _check_address(address: str) -> None:
    """Raise `UserError` where `address` has another form or no Ray can be there.

    Ray itself fails only after many minutes.
    """
    if "://" in address:
        raise UserError(
            *_expected_address(address),
            "; from outside of the cluster use `ray job submit --address http://HEAD:8265 -- "
            "pad-pipeline …`",
        )
    if address == "auto":
        return
    host, colon, port = address.rpartition(":")
    if not (host and colon and port.isdecimal()):
        raise UserError(*_expected_address(address))
    if not _is_listening(address):
        raise _not_reached(address, "nothing there uses its protocol")


def _expected_address(address: str) -> tuple[str | Setting, ...]:
    expected = "expected the host:port of a Ray cluster's head, such as 10.0.0.1:6379"
    return f"{expected}, found {address!r} (", Setting("ray_address"), " or RAY_ADDRESS)"


def _is_listening(address: str) -> bool:
    """Whether a gRPC server listens there; a web server, such as Ray's dashboard, is none."""
    host, _, port = address.rpartition(":")
    try:
        with socket.create_connection((host.strip("[]"), int(port)), CONNECT_TIMEOUT_S) as peer:
            if os.environ.get("RAY_USE_TLS", "0") != "0":
                return True
            peer.sendall(_HTTP2_HELLO)
            return peer.recv(4)[3:] == _HTTP2_SETTINGS
    except (OSError, OverflowError):
        return False


def _not_reached(address: str, reason: str) -> UserError:
    return UserError(
        f"no Ray cluster answers at {address} ({reason}); start one with `ray start --head`, or "
        "leave out ",
        Setting("ray_address"),
        " and RAY_ADDRESS to use this machine alone",
    )


def _init(**options: Any) -> None:
    """`ray.init`, which also takes SIGTERM for itself, without that.

    Ray also prints paragraphs on each worker that dies to stdout, whatever `log_to_driver` is. They
    are switched off: stdout is for a run's results, and the run itself logs such deaths.
    """
    handler = signal.getsignal(signal.SIGTERM)
    ray_worker._worker_logs_enabled = options["log_to_driver"]
    try:
        ray.init(**options)
    finally:
        if threading.current_thread() is threading.main_thread():
            signal.signal(signal.SIGTERM, handler)


def start_here(num_slots: int, *, verbose: bool, shared_cores: bool = True) -> None:
    """Start Ray on this machine with at least `num_slots` CPU slots, and no dashboard.

    With `shared_cores`, threads of the workers that wait for each other sleep: spinning they would
    take the cores from the other stages' workers. Raises `UserError` where Ray does not start.
    """
    slots = max(os.cpu_count() or 1, num_slots)
    # Ray's head keeps 2 KB of each of the last 100,000 tasks by default, for a dashboard that does
    # not run here.
    os.environ.setdefault("RAY_task_events_max_num_task_in_gcs", "1000")
    if shared_cores:
        os.environ.setdefault("OMP_WAIT_POLICY", "PASSIVE")
    try:
        with _without_uv_environment():
            _init(
                address="local",
                num_cpus=slots,
                include_dashboard=False,
                **_short_temp_dir(),
                **_quiet(verbose),
            )
    except (OSError, RuntimeError, ValueError, ray.exceptions.RayError) as error:
        raise UserError(
            f"Ray does not start on this machine ({first_line(error)}); its files go to "
            f"{get_default_ray_temp_dir()} (RAY_TMPDIR or TMPDIR choose another folder), and its "
            "objects to /dev/shm; ",
            Setting("ray_logs", True),
            " shows Ray's own messages",
        ) from error


def _short_temp_dir() -> dict[str, str]:
    """The option of `ray.init` for a folder that Ray's sockets fit into, where its own is too long.

    Batch systems and CI runners set a TMPDIR of any length; a socket's path has a fixed bound.
    """
    folder = get_default_ray_temp_dir()
    if len(os.fsencode(folder)) <= _LONGEST_TEMP_DIR:
        return {}
    for short in _SHORT_TEMP_DIRS:
        if os.access(short, os.W_OK | os.X_OK):
            place = os.path.join(short, f"ray-{os.getuid()}")
            logger.debug("Ray's files go to %s: sockets do not fit below %s", place, folder)
            return {"_temp_dir": place}
    return {}


@contextmanager
def _without_uv_environment() -> Iterator[None]:
    """Keep Ray from packing the working folder for its workers where `uv run` began this process.

    Workers on this machine have the environment already; the folder may hold all the images. Who
    sets the variable has it their way.
    """
    if "RAY_ENABLE_UV_RUN_RUNTIME_ENV" in os.environ:
        yield
        return
    before = ray_constants.RAY_ENABLE_UV_RUN_RUNTIME_ENV
    ray_constants.RAY_ENABLE_UV_RUN_RUNTIME_ENV = False
    try:
        yield
    finally:
        ray_constants.RAY_ENABLE_UV_RUN_RUNTIME_ENV = before


@contextmanager
def shut_down_after() -> Iterator[None]:
    """Leave Ray as it was found: what this process joined or started is given back."""
    before = ray.is_initialized()
    try:
        yield
    finally:
        if not before:
            ray.shutdown()


def _quiet(verbose: bool) -> dict:
    # Ray reads these when it is initialised; a value that the user set stays.
    os.environ.setdefault("RAY_USAGE_STATS_ENABLED", "0")
    os.environ.setdefault("RAY_ACCEL_ENV_VAR_OVERRIDE_ON_ZERO", "0")
    return {
        "logging_level": logging.INFO if verbose else logging.ERROR,
        "log_to_driver": verbose,
    }
