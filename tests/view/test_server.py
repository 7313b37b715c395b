"""The command as a process: it takes a port, answers, stops; and one sentence where it cannot."""

from __future__ import annotations

import json
import os
import signal
import socket
import subprocess
import sys
import urllib.request
from pathlib import Path

import httpx
import pytest

from tests.cli.command_lines import commands_in, parse
from tests.cli.runner import call

ROOT = Path(__file__).parents[2]


def start(*arguments: object, cache: Path) -> subprocess.Popen[str]:
    return subprocess.Popen(
        [sys.executable, "-m", "pad_pipeline", "view", *map(str, arguments)],
        env={**os.environ, "PAD_CACHE": str(cache)},
        stdout=subprocess.PIPE,
        stderr=subprocess.PIPE,
        text=True,
    )


@pytest.mark.parametrize("end", [signal.SIGINT, signal.SIGTERM])
def test_it_serves_on_loopback_until_a_signal(
    shared_data: Path, cache: Path, end: signal.Signals
) -> None:
    process = start(
        shared_data, "--images", shared_data.parent / "images", "--port", 0, cache=cache
    )
    try:
        assert process.stdout is not None
        line = process.stdout.readline()
        address = line.split()[2]
        assert address.startswith("http://127.0.0.1:")
        with urllib.request.urlopen(f"{address}/healthz", timeout=30) as answer:
            assert json.load(answer)["images"] == 7
        process.send_signal(end)
        _, err = process.communicate(timeout=30)
    finally:
        process.kill()
    assert process.returncode == 0
    assert "Traceback" not in err


def test_a_token_of_ones_own_is_needed_here_too_and_is_not_printed(
    shared_data: Path, cache: Path, tmp_path: Path
) -> None:
    (tmp_path / "token").write_text("s3cret;with=signs\n")
    review = tmp_path / "review.jsonl"
    process = start(
        *(shared_data, "--images", shared_data.parent / "images", "--port", 0),
        *("--token-file", tmp_path / "token", "--review", review),
        cache=cache,
    )
    try:
        assert process.stdout is not None
        address = process.stdout.readline().split()[2]
        said = process.stdout.readline()
        assert "with the token of" in said
        assert "s3cret" not in said
        event = {"kind": "view", "name": "all", "value": ""}

        def send(cookies: dict[str, str], **headers: str) -> int:
            return httpx.post(
                f"{address}/api/review", json=event, headers=headers, cookies=cookies, timeout=30
            ).status_code

        assert send({}) == 401
        assert send({}, authorization="Bearer s3cret;with=signs") == 200
        with httpx.Client(timeout=30) as browser:
            browser.get(f"{address}/", params={"token": "s3cret;with=signs"})
            kept = dict(browser.cookies.items())
        assert send(kept) == 200
    finally:
        process.kill()
        process.communicate(timeout=30)
    assert len(review.read_text().splitlines()) == 2


def test_a_port_that_is_taken_is_one_sentence(capfd, shared_data: Path) -> None:
    with socket.socket() as other:
        other.bind(("127.0.0.1", 0))
        other.listen()
        port = other.getsockname()[1]
        sentence = call(capfd, "view", shared_data, "--port", port).sentence
    assert f"port {port} of 127.0.0.1 is taken by another program" in sentence
    assert "--port" in sentence


@pytest.mark.parametrize(
    ("arguments", "sentence"),
    [
        (("nowhere",), "expected a data set of PAD records at nowhere"),
        (("{data}", "--images", "nowhere"), "expected the images at nowhere"),
        (("{data}", "--run", "nowhere"), "expected a folder on this machine with an analysis"),
        (("{data}", "--codes", "embedded"), "--codes is for conversations"),
        (("{data}", "--service", "there"), "expected an address such as http://127.0.0.1:8000"),
        (("{data}", "--host", "no.such.host.invalid"), "is no address of this machine"),
        (("{data}", "--token-file", "nowhere"), "cannot read a token from nowhere"),
        (("{data}", "--port", "70000"), "expected a port from 0 to 65535, found 70000"),
    ],
)
def test_what_is_wrong_is_one_sentence(capfd, shared_data: Path, arguments, sentence: str) -> None:
    words = [word.format(data=shared_data) for word in arguments]
    if "--port" not in words:
        words += ["--port", "0"]
    assert sentence in call(capfd, "view", *words).sentence


def test_the_commands_of_the_readme_that_serve_can_be_parsed() -> None:
    pages = (ROOT / "README.md", ROOT / "docs" / "view.md")
    text = "".join(page.read_text("utf-8") for page in pages)
    lines = [words for words in commands_in(text) if words[0] == "view" and len(words) > 1]
    assert len(lines) >= 2
    for words in lines:
        assert parse(words) == "view"
