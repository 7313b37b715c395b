"""Which Ray is joined, without one: named, started here, another program's, unreachable."""

from __future__ import annotations

import http.server
import signal
import socket
import threading
import time
from collections.abc import Iterator
from typing import Any

import pytest

from pad_pipeline.engine import ray_session
from pad_pipeline.engine.ray_session import Cluster, join
from pad_pipeline.errors import UserError
from tests.ports import free_port

SETTINGS_FRAME = b"\x00\x00\x00\x04\x00\x00\x00\x00\x00"


@pytest.fixture
def calls(monkeypatch: pytest.MonkeyPatch) -> list[dict[str, Any]]:
    """What `ray.init` was called with; it always succeeds."""
    calls: list[dict[str, Any]] = []
    monkeypatch.delenv("RAY_ADDRESS", raising=False)
    monkeypatch.setattr(ray_session, "find_bootstrap_address", lambda temp_dir: None)
    monkeypatch.setattr(ray_session.ray, "is_initialized", lambda: False)
    monkeypatch.setattr(ray_session.ray, "init", lambda **options: calls.append(options))
    monkeypatch.setattr(
        ray_session.ray, "cluster_resources", lambda: {"CPU": 8.0, "GPU": 2.0, "memory": 1e9}
    )
    return calls


@pytest.fixture
def grpc() -> Iterator[str]:
    """The address of something that answers as an HTTP/2 server does."""
    with socket.create_server(("127.0.0.1", 0)) as server:

        def answer() -> None:
            while True:
                try:
                    peer, _ = server.accept()
                except OSError:
                    return
                with peer:
                    peer.recv(1024)
                    peer.sendall(SETTINGS_FRAME)

        threading.Thread(target=answer, daemon=True).start()
        yield f"127.0.0.1:{server.getsockname()[1]}"


@pytest.fixture
def web() -> Iterator[str]:
    """The address of a web server, as Ray's dashboard is one."""
    server = http.server.HTTPServer(("127.0.0.1", 0), http.server.BaseHTTPRequestHandler)
    threading.Thread(target=server.serve_forever, daemon=True).start()
    yield f"127.0.0.1:{server.server_port}"
    server.shutdown()
    server.server_close()


def nobody() -> str:
    return f"127.0.0.1:{free_port()}"


def test_without_a_name_and_a_cluster_none_is_joined(calls: list) -> None:
    assert join(None, verbose=False) is None
    assert calls == []  # "auto" would join the private Ray of any other program


def test_a_named_cluster_is_joined(calls: list, grpc: str) -> None:
    assert join(grpc, verbose=False) == Cluster(num_cpus=8, num_gpus=2)
    assert calls[0]["address"] == grpc


def test_the_environment_names_one_too(calls: list, grpc: str, monkeypatch) -> None:
    monkeypatch.setenv("RAY_ADDRESS", grpc)
    assert join(None, verbose=False) is not None
    assert calls[0]["address"] == grpc
    with pytest.raises(UserError, match="expected the host:port"):
        join("other", verbose=False)


def test_the_one_that_was_started_here_is_joined(calls: list, grpc: str, monkeypatch) -> None:
    monkeypatch.setattr(ray_session, "find_bootstrap_address", lambda temp_dir: grpc)
    assert join(None, verbose=False) is not None
    assert calls[0]["address"] is None


def test_one_that_was_started_here_and_died_is_not_waited_for(calls: list, monkeypatch) -> None:
    gone = nobody()
    monkeypatch.setattr(ray_session, "find_bootstrap_address", lambda temp_dir: gone)
    assert join(None, verbose=False) is None
    assert calls == []


def test_local_joins_none(calls: list, grpc: str, monkeypatch) -> None:
    monkeypatch.setattr(ray_session, "find_bootstrap_address", lambda temp_dir: grpc)
    assert join("local", verbose=False) is None
    assert calls == []


def test_where_no_ray_can_be_that_is_said_at_once(calls: list, web: str) -> None:
    for address in (nobody(), web, "127.0.0.1:99999", "no-such-host.invalid:6379"):
        start_s = time.monotonic()
        with pytest.raises(UserError, match=f"no Ray cluster answers at {address}"):
            join(address, verbose=False)
        assert time.monotonic() - start_s < ray_session.CONNECT_TIMEOUT_S + 2
    assert calls == []


@pytest.mark.parametrize("address", ["head", ":6379", "head:", "head:ray", "http://head:8265"])
def test_addresses_of_another_form_are_refused(calls: list, address: str) -> None:
    with pytest.raises(UserError, match="expected the host:port"):
        join(address, verbose=False)
    assert calls == []


@pytest.mark.parametrize("error", [ConnectionError, RuntimeError, ValueError])
def test_what_ray_says_becomes_one_sentence(calls: list, grpc: str, monkeypatch, error) -> None:
    def init(**options: object) -> None:
        raise error("version mismatch\nwith a long story")

    monkeypatch.setattr(ray_session.ray, "init", init)
    with pytest.raises(UserError) as caught:
        join(grpc, verbose=False)
    assert "version mismatch" in str(caught.value)
    assert "long story" not in str(caught.value)
    assert "RAY_AUTH_TOKEN" in str(caught.value)


def test_rays_own_handler_of_sigterm_is_not_kept(calls: list, grpc: str, monkeypatch) -> None:
    def init(**options: object) -> None:
        signal.signal(signal.SIGTERM, signal.SIG_IGN)

    monkeypatch.setattr(ray_session.ray, "init", init)
    before = signal.getsignal(signal.SIGTERM)
    join(grpc, verbose=False)
    assert signal.getsignal(signal.SIGTERM) is before


def test_a_ray_that_is_initialised_is_taken_as_it_is(calls: list, monkeypatch) -> None:
    monkeypatch.setattr(ray_session.ray, "is_initialized", lambda: True)
    assert join("nonsense", verbose=False) == Cluster(num_cpus=8, num_gpus=2)
    assert calls == []


@pytest.mark.parametrize("error", [PermissionError(13, "Permission denied"), RuntimeError("no")])
def test_where_ray_does_not_start_one_sentence_says_so(calls: list, monkeypatch, error) -> None:
    def fail(**options) -> None:
        raise error

    for name in ("OMP_WAIT_POLICY", "RAY_task_events_max_num_task_in_gcs"):
        monkeypatch.setenv(name, "1")  # so that it is put back
    monkeypatch.setattr(ray_session.ray, "init", fail)
    with pytest.raises(UserError, match="Ray does not start on this machine"):
        ray_session.start_here(1, verbose=False)


@pytest.fixture
def started(calls: list, monkeypatch) -> list[dict[str, Any]]:
    """The calls of `ray.init`, with the environment put back afterwards."""
    for name in ("OMP_WAIT_POLICY", "RAY_task_events_max_num_task_in_gcs"):
        monkeypatch.setenv(name, "1")
    return calls


@pytest.mark.parametrize("variable", ["TMPDIR", "RAY_TMPDIR"])
def test_a_temporary_folder_too_long_for_sockets_is_replaced(
    started: list, monkeypatch, tmp_path, variable: str
) -> None:
    monkeypatch.delenv("RAY_TMPDIR", raising=False)
    long = tmp_path / ("d" * 90)
    long.mkdir()
    monkeypatch.setenv(variable, str(long))
    ray_session.start_here(1, verbose=False)
    place = started[0]["_temp_dir"]
    socket_path = f"{place}/session_2026-01-01_00-00-00_000000_4194304/sockets/plasma_store.12"
    assert len(socket_path) <= 103


def test_a_short_temporary_folder_is_left_to_ray(started: list, monkeypatch) -> None:
    monkeypatch.setenv("RAY_TMPDIR", "/tmp/mine")
    ray_session.start_here(1, verbose=False)
    assert "_temp_dir" not in started[0]


def test_no_environment_is_packed_for_workers_on_this_machine(calls: list, monkeypatch) -> None:
    """`uv run` makes Ray copy the working folder, with all its images, to the workers."""
    seen: list[object] = []
    monkeypatch.setenv("OMP_WAIT_POLICY", "PASSIVE")
    monkeypatch.setenv("RAY_task_events_max_num_task_in_gcs", "1000")
    monkeypatch.delenv("RAY_ENABLE_UV_RUN_RUNTIME_ENV", raising=False)
    monkeypatch.setattr(
        "ray._private.runtime_env.uv_runtime_env_hook._get_uv_run_cmdline",
        lambda: ["uv", "run", "pad-pipeline", "annotate"],
    )
    modify = ray_session.ray_worker._maybe_modify_runtime_env
    monkeypatch.setattr(ray_session.ray, "init", lambda **options: seen.append(modify(None, False)))
    ray_session.start_here(1, verbose=False)
    assert seen == [None]
    monkeypatch.setenv("RAY_ENABLE_UV_RUN_RUNTIME_ENV", "1")
    ray_session.start_here(1, verbose=False)
    assert seen[1]["working_dir"]
