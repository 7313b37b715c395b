"""Marks over HTTP: kept before they are answered, by many at once, and by nobody from elsewhere."""

from __future__ import annotations

import json
import os
import subprocess
import sys
import threading
import urllib.request
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path
from typing import Any

import pytest
from starlette.testclient import TestClient

from pad_pipeline.review.events import region_digest
from pad_pipeline.review.log import read_marks
from pad_pipeline.view.app import make_app
from pad_pipeline.view.server import open_viewer
from tests.dataset.example import example_records
from tests.view.conftest import open_client
from tests.view.html import page

FIRST = example_records()[0]
IMAGE = FIRST.image_id
PAGE = "/image/00000%2F00000000.png"


def region(number: int) -> dict[str, Any]:
    """Which region of the first image."""
    return {"image": IMAGE, "region": number, "digest": region_digest(FIRST.labels[number])}


def mark(client: TestClient, **event: Any) -> dict[str, Any]:
    answer = client.post("/api/review", json=event)
    assert answer.status_code == 200, answer.text
    return answer.json()


def test_regions_and_images_are_marked_renamed_and_taken_back(data: Path) -> None:
    client = open_client(data)
    assert not (data / "_review.jsonl").exists()
    first = mark(client, kind="verdict", **region(0), value="accepted", by=" anna ")
    assert first["done"] == "accepted region 1"
    mark(client, kind="verdict", **region(1), value="rejected")
    mark(client, kind="verdict", image=IMAGE, value="flagged")
    last = mark(client, kind="tag", **region(1), value="yacht")
    marks = last["marks"]
    assert marks["verdict"]["value"] == "flagged"
    assert [one["verdict"]["value"] for one in marks["regions"]] == ["accepted", "rejected"]
    assert marks["regions"][0]["verdict"]["by"] == "anna"
    assert marks["regions"][1]["tag"]["value"] == "yacht"
    shown = page(client, PAGE)
    assert "yacht" in shown.text
    assert "sail boat" in shown.text  # what it was
    assert "yacht" in page(client, "/").text
    back = mark(client, kind="undo", value=last["id"])
    assert back["done"] == "renamed region 2 to yacht"
    assert back["marks"]["regions"][1]["tag"] is None
    assert client.get(f"/api/review/image/{IMAGE}").json() == back["marks"]
    assert len((data / "_review.jsonl").read_text().splitlines()) == 5
    assert open_client(data).get(f"/api/review/image/{IMAGE}").json() == back["marks"]


@pytest.mark.parametrize(
    ("event", "status", "sentence"),
    [
        ({"kind": "verdict", "image": "gone", "value": "accepted"}, 404, "no image called 'gone'"),
        ({"kind": "verdict", "image": IMAGE, "value": "good"}, 422, "this is no mark: "),
        ({"kind": "tag", **region(0), "value": " "}, 422, "this is no mark: "),
        ({"kind": "tag", "image": IMAGE, "value": "x"}, 422, "this is no mark: "),
        ({"kind": "poem"}, 422, "this is no mark: "),
        ([1], 422, "this is no mark: "),
        ({"kind": "undo", "value": "0"}, 404, "no such mark to take back"),
        ({"kind": "verdict", **region(0), "region": 7, "value": None}, 409, "has changed since"),
        ({"kind": "verdict", **region(0), "region": 1, "value": None}, 409, "has changed since"),
    ],
)
def test_what_is_no_mark_is_one_sentence_and_is_not_kept(
    data: Path, event: Any, status: int, sentence: str
) -> None:
    answer = open_client(data).post("/api/review", json=event)
    assert answer.status_code == status
    assert sentence in answer.json()["error"]
    assert not (data / "_review.jsonl").exists()


def test_no_other_web_site_marks_anything(data: Path) -> None:
    client = open_client(data)
    event = {"kind": "verdict", "image": IMAGE, "value": "rejected"}
    text = json.dumps(event)
    json_type = {"content-type": "application/json"}
    for headers, status in (
        ({**json_type, "sec-fetch-site": "cross-site"}, 403),
        ({**json_type, "sec-fetch-site": "same-site"}, 403),
        ({**json_type, "origin": "http://evil.example"}, 403),
        ({**json_type, "origin": "http://127.0.0.1:9999"}, 403),
        ({**json_type, "origin": "null"}, 403),
        ({**json_type, "host": "evil.example"}, 421),
        ({"content-type": "text/plain"}, 415),
        ({"content-type": "application/x-www-form-urlencoded"}, 415),
    ):
        assert client.post("/api/review", content=text, headers=headers).status_code == status
    assert client.post("/api/review", content=b" " * 70_000, headers=json_type).status_code == 413
    assert not (data / "_review.jsonl").exists()
    own = {**json_type, "origin": "http://127.0.0.1:8500", "sec-fetch-site": "same-origin"}
    assert client.post("/api/review", content=text, headers=own).status_code == 200


def test_beyond_this_machine_marking_needs_the_token(data: Path) -> None:
    viewer = open_viewer(str(data), host="0.0.0.0")
    token = viewer.writing.token
    assert token is not None
    client = TestClient(make_app(viewer, "0.0.0.0"), base_url="http://studio:8500")
    event = {"kind": "verdict", "image": IMAGE, "value": "rejected"}
    assert "?token=" in page(client, PAGE).text
    refused = client.post("/api/review", json=event)
    assert refused.status_code == 401
    assert "open the address with ?token=" in refused.json()["error"]
    wrong = {"authorization": "Bearer wrong"}
    assert client.post("/api/review", json=event, headers=wrong).status_code == 401
    client.get("/?token=wrong&tag=apple")
    assert client.post("/api/review", json=event).status_code == 401
    right = {"authorization": f"Bearer {token}"}
    assert client.post("/api/review", json=event, headers=right).status_code == 200
    answer = client.get(f"/?token={token}&tag=apple", follow_redirects=False)
    assert answer.headers["location"] == "/?tag=apple"
    cookie = answer.headers["set-cookie"].lower()
    assert "httponly" in cookie
    assert "samesite=strict" in cookie
    assert client.post("/api/review", json={**event, "by": ""}).status_code == 200
    assert "?token=" not in page(client, PAGE).text
    names = [event.by for event in read_marks(str(data / "_review.jsonl")).events]
    assert names == ["testclient"] * 2  # the client's address


def test_ten_browsers_at_once_lose_nothing(data: Path) -> None:
    client = open_client(data)
    start = threading.Barrier(10)

    def browse(number: int) -> None:
        own = TestClient(client.app, base_url="http://127.0.0.1:8500")
        start.wait(30)
        for value in ("accepted", "rejected", "flagged") * 4:
            mark(own, kind="verdict", **region(number % 2), value=value, by=f"browser {number}")

    with ThreadPoolExecutor(10) as pool:
        list(pool.map(browse, range(10)))
    events = read_marks(str(data / "_review.jsonl")).events
    assert len(events) == 120
    for number in range(10):
        own = [event.value for event in events if event.by == f"browser {number}"]
        assert own == ["accepted", "rejected", "flagged"] * 4


def test_two_viewers_of_one_file_lose_nothing_and_see_each_other(
    data: Path, tmp_path: Path
) -> None:
    review = tmp_path / "ours.jsonl"
    command = [
        *(sys.executable, "-m", "pad_pipeline", "view", str(data)),
        *("--images", str(data.parent / "images"), "--review", str(review), "--port", "0"),
    ]
    environment = {**os.environ, "PAD_CACHE": str(tmp_path / "cache")}
    servers = [
        subprocess.Popen(command, env=environment, stdout=subprocess.PIPE, text=True)
        for _ in range(2)
    ]
    try:
        addresses = [server.stdout.readline().split()[2] for server in servers if server.stdout]

        def send(number: int) -> None:
            body = {"kind": "verdict", **region(number % 2), "value": "accepted", "by": str(number)}
            request = urllib.request.Request(
                f"{addresses[number % 2]}/api/review",
                json.dumps(body).encode(),
                {"Content-Type": "application/json"},
            )
            urllib.request.urlopen(request, timeout=60).close()

        with ThreadPoolExecutor(10) as pool:
            list(pool.map(send, range(40)))
        seen = []
        for address in addresses:
            with urllib.request.urlopen(f"{address}/api/review/image/{IMAGE}", timeout=60) as found:
                seen.append(json.load(found))
    finally:
        for server in servers:
            server.terminate()
            server.wait(30)
    assert sorted(int(event.by) for event in read_marks(str(review)).events) == list(range(40))
    assert seen[0] == seen[1]
    assert not (data / "_review.jsonl").exists()


def test_a_damaged_review_is_named_on_every_page_and_left_as_it_is(data: Path) -> None:
    (data / "_review.jsonl").write_text("nothing\n")
    client = open_client(data)
    for address in ("/", PAGE, "/tags"):
        assert "Marks are neither shown nor set: line 1 of" in page(client, address).text
    answer = client.post("/api/review", json={"kind": "verdict", "image": IMAGE, "value": None})
    assert answer.status_code == 400
    assert "line 1 of" in answer.json()["error"]
    assert (data / "_review.jsonl").read_text() == "nothing\n"


def test_a_place_that_cannot_be_written_is_one_sentence(data: Path, tmp_path: Path) -> None:
    (tmp_path / "file").write_bytes(b"")
    client = open_client(data, review=str(tmp_path / "file/review.jsonl"))
    answer = client.post("/api/review", json={"kind": "verdict", "image": IMAGE, "value": None})
    assert answer.status_code == 400
    assert "a part of this path is a file" in answer.json()["error"]


def test_marks_of_regions_that_have_changed_are_counted(data: Path) -> None:
    client = open_client(data)
    mark(client, kind="verdict", **region(0), value="rejected")
    text = (data / "_review.jsonl").read_text()
    (data / "_review.jsonl").write_text(text.replace(region(0)["digest"], "0" * 16))
    shown = page(client, PAGE)
    assert "1 mark of regions that have changed since is not shown" in " ".join(shown.text.split())
    assert client.get(f"/api/review/image/{IMAGE}").json()["regions"][0]["verdict"] is None
