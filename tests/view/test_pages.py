"""The pages and the JSON: they open, filter, say what is wrong, and let nothing through."""

from __future__ import annotations

import io
import json
import re
from dataclasses import replace
from http.server import BaseHTTPRequestHandler, HTTPServer
from pathlib import Path
from threading import Thread

import numpy as np
import pytest
from PIL import Image
from starlette.testclient import TestClient

from pad_pipeline.view.addresses import of_image
from tests.dataset.example import ellipse, example_records, record, region, write_dataset
from tests.view.conftest import ask
from tests.view.html import Page, page


def test_every_page_opens_and_every_link_of_it_leads_somewhere(client: TestClient) -> None:
    seen: set[str] = set()
    waiting = ["/"]
    while waiting and len(seen) < 150:
        address = waiting.pop()
        if address in seen:
            continue
        seen.add(address)
        answer = client.get(address)
        assert answer.status_code == 200, address
        if not answer.headers["content-type"].startswith("text/html"):
            continue
        found = Page(answer.text)
        links = found.all("a", "href") + found.all("img", "src") + found.all("image", "href")
        links += found.all("link", "href") + found.all("script", "src")
        assert all(link.startswith(("/", "#")) for link in links), address
        waiting += [link for link in links if link.startswith("/")]
    for start in ("/image/", "/tags?name=", "/stats.png", "/failures", "/layer/", "/annotated/"):
        assert any(address.startswith(start) for address in seen), start


def test_the_grid_shows_what_passes(client: TestClient) -> None:
    found = page(client, "/")
    assert "1–7 of 7" in found.text
    assert len([link for link in found.all("a", "href") if link.startswith("/image/")]) == 7
    assert "1–2 of 2" in page(client, "/?tag=apple").text
    assert "1–1 of 1" in page(client, "/?tag=apple&min_score=0.9").text
    assert "No image passes." in page(client, "/?q=elephant").text
    assert "failed" in page(client, "/?status=failed").text


@pytest.mark.parametrize(
    ("query", "said"),
    [
        ("min_score=2", "expected min_score between 0 and 1, found '2'"),
        ("min_score=much", "expected min_score between 0 and 1, found 'much'"),
        ("min_area=-1", "expected min_area to be a whole number from 0, found '-1'"),
        ("sort=beauty", "expected sort to be one of order, score"),
        ("status=good", "expected status to be one of ok, empty, failed, found 'good'"),
        ("page=two", "expected page to be a whole number"),
    ],
)
def test_a_value_that_cannot_be_meant_is_one_sentence(client, query: str, said: str) -> None:
    assert said in page(client, f"/?{query}", 400).text
    if "page" not in query:
        answer = client.get(f"/api/records?{query}")
        assert answer.status_code == 400
        assert said in answer.json()["error"]


def test_the_page_of_an_image_has_all_of_its_record(client: TestClient) -> None:
    one = example_records()[4]
    found = page(client, of_image(one.image_id))
    for text in (one.image_id, one.caption, "0.70", "0.60", "1.00", "40 × 30 px", "2 regions"):
        assert text in found.text
    assert json.loads(client.get(of_image(one.image_id, "api/record")).text)["size"] == [40, 30]
    assert re.search(r'"rle_mask": "[^"]+"', found.text)
    boxes = [attrs for kind, attrs in found.elements if attrs.get("class") == "box"]
    assert len(boxes) == 2
    assert found.all("svg", "aria-label") == [one.caption]
    rels = {attrs["rel"]: attrs["href"] for kind, attrs in found.elements if "rel" in attrs}
    assert rels["prev"] == of_image(example_records()[3].image_id)
    assert rels["next"] == of_image(example_records()[5].image_id)
    filtered = page(client, of_image(one.image_id, query="tag=tree"))
    assert "1 of 1" in filtered.text
    assert not filtered.all("a", "rel")


def test_the_records_as_json(client: TestClient) -> None:
    found = client.get("/api/records?tag=apple&limit=1&offset=1").json()
    assert (found["total"], found["limit"], found["offset"]) == (2, 1, 1)
    [one] = found["records"]
    expected = example_records()[3]
    assert one["image_id"] == expected.image_id
    assert one["labels"][0]["bbox"] == list(expected.labels[0].bbox)
    assert one["labels"][0]["area"] == expected.labels[0].area
    assert one["caption"] is None
    assert client.get("/api/records?limit=1001").status_code == 400
    failed = client.get("/api/records?status=failed").json()["records"][0]
    assert failed["error"]["type"] == "ImageError"


def test_pictures_are_pictures(client: TestClient) -> None:
    one = example_records()[0]
    for kind, form in (("thumb", "JPEG"), ("picture", "JPEG"), ("annotated", "PNG")):
        answer = client.get(of_image(one.image_id, kind))
        image = Image.open(io.BytesIO(answer.content))
        assert image.format == form
        assert image.width / image.height == pytest.approx(40 / 30, rel=0.02)
    fill, rim = (
        Image.open(io.BytesIO(client.get(of_image(one.image_id, f"layer/0/{part}")).content))
        for part in ("fill", "rim")
    )
    assert fill.size == rim.size
    share = sum(fill.getchannel("A").histogram()[128:]) / (fill.width * fill.height)
    assert share == pytest.approx(one.labels[0].area / 1200, rel=0.03)
    assert client.get(of_image(one.image_id, "layer/9/fill")).status_code == 404


def test_a_picture_that_is_missing_is_shown_as_missing(data: Path) -> None:
    (data.parent / "images" / example_records()[0].image_id).unlink()
    client = ask(data, images=str(data.parent / "images"))
    answer = client.get(of_image(example_records()[0].image_id, "thumb"))
    assert answer.status_code == 200
    assert answer.headers["x-picture"] == "missing"
    found = page(client, of_image(example_records()[0].image_id))
    assert "the image is not there" in found.text
    assert "--images" not in found.text  # the others are there


def test_without_the_images_one_sentence_says_what_to_do(data: Path) -> None:
    found = page(ask(data), "/")
    assert "The images cannot be read where they were annotated" in found.text
    assert "start the viewer with --images" in found.text
    assert "1–7 of 7" in found.text


def test_damage_and_growth_are_said_on_every_page(data: Path) -> None:
    shard = data / "pad-00001.parquet"
    shard.write_bytes(shard.read_bytes()[:-100])
    manifest = json.loads((data / "_manifest.json").read_text())
    running = {**manifest, "state": "running", "num_images": 9}
    (data / "_manifest.json").write_text(json.dumps(running))
    client = ask(data, images=str(data.parent / "images"))
    for address in ("/", "/tags", "/stats", "/failures"):
        text = page(client, address).text
        assert "The shard pad-00001.parquet cannot be read and is left out" in text
        assert "still being written: 4 of 9 images" in text
    health = client.get("/healthz").json()
    assert (health["status"], health["state"], health["images"]) == ("ok", "running", 4)
    assert "pad-00001.parquet" in health["unreadable_shards"]


def test_a_damaged_mask_leaves_the_page_whole(tmp_path: Path) -> None:
    good = region("apple", ellipse(12, 10, 8, 7))
    one = record(0, [good, replace(good, rle_mask="!!!", tag="boat")], uri=str(tmp_path / "x.png"))
    Image.new("RGB", (40, 30)).save(tmp_path / "x.png")
    client = ask(Path(write_dataset(tmp_path / "data", [one])))
    assert "boat" in page(client, of_image(one.image_id)).text
    assert client.get(of_image(one.image_id, "layer/1/fill")).headers["x-picture"] == "missing"
    assert "x-picture" not in client.get(of_image(one.image_id, "layer/0/fill")).headers


def test_failures_by_cause_with_the_command(client: TestClient, data: Path) -> None:
    found = page(client, "/failures")
    assert "decode: ImageError" in found.text
    assert f"pad-pipeline retry-failed {data}" in found.text
    [listed] = [link for link in found.all("a", "href") if "cause=" in link]
    assert "1–1 of 1" in page(client, listed).text


def test_two_data_sets_are_compared(client: TestClient, data: Path) -> None:
    assert "without" not in page(client, "/compare").text
    stricter = [
        replace(one, labels=tuple(label for label in one.labels if label.score >= 0.5))
        for one in example_records()[:6]
    ]
    other = write_dataset(data.parent / "other", stricter)
    found = page(client, f"/compare?other={other}")
    assert re.search(r"6\s+images in both", found.text)
    assert re.search(r"1\s+of them differ", found.text)
    assert "1 only here" in found.text
    marked = [attrs for _, attrs in found.elements if "marked" in (attrs.get("class") or "")]
    assert len(marked) == 1
    # Each side shows its own masks: that of the region which only one has is on one picture.
    address = of_image(example_records()[0].image_id, "thumb")
    pictures = [link for link in found.all("img", "src") if link.startswith(address)]
    here, there = (np.asarray(Image.open(io.BytesIO(client.get(p).content))) for p in pictures)
    assert here.shape == there.shape
    assert (np.abs(here.astype(int) - there).max(axis=2) > 20).mean() > 0.01
    assert "1–5 of 5" in page(client, f"/compare?other={other}&show=same").text
    one = page(client, f"/compare?other={other}&image={example_records()[0].image_id}")
    assert "sail boat" in one.text
    assert "nothing is there" in page(client, "/compare?other=/nowhere", 400).text
    # Another web site gets no folder of this machine read.
    answer = client.get(f"/compare?other={other}", headers={"sec-fetch-site": "cross-site"})
    assert "images in both" not in answer.text


class Service(BaseHTTPRequestHandler):
    """Stands in for `serve`."""

    def do_POST(self) -> None:
        body = self.rfile.read(int(self.headers["content-length"]))
        status, kind, answer = 200, "application/json", b'{"labels": [{"tag": "apple"}]}'
        if body == b"no image":
            status, answer = 400, b'{"error": "not an image"}'
        elif self.path.endswith("render=1"):
            kind, answer = "image/png", b"\x89PNG"
        elif body == b"page":
            kind, answer = "text/html", b"<script>alert(1)</script>"
        self.send_response(status)
        self.send_header("content-type", kind)
        self.send_header("content-length", str(len(answer)))
        self.end_headers()
        self.wfile.write(answer)

    def log_message(self, format: str, *args: object) -> None:
        """Says nothing."""


def test_an_image_goes_to_the_service_and_its_answer_comes_back(data: Path) -> None:
    server = HTTPServer(("127.0.0.1", 0), Service)
    thread = Thread(target=server.serve_forever, daemon=True)
    thread.start()
    try:
        client = ask(data, service=f"http://127.0.0.1:{server.server_port}")
        assert "Try an image" in page(client, "/try").text
        answer = client.post("/try/annotate", content=b"an image")
        assert answer.json()["labels"] == [{"tag": "apple"}]
        assert client.post("/try/annotate?render=1", content=b"x").content == b"\x89PNG"
        refused = client.post("/try/annotate", content=b"no image")
        assert (refused.status_code, refused.json()) == (400, {"error": "not an image"})
        assert client.post("/try/annotate", content=b"page").status_code == 502
        elsewhere = {"sec-fetch-site": "cross-site"}
        assert client.post("/try/annotate", content=b"x", headers=elsewhere).status_code == 403
    finally:
        server.shutdown()
        server.server_close()
        thread.join(10)
    gone = client.post("/try/annotate", content=b"an image")
    assert gone.status_code == 502
    assert "no service answers" in gone.json()["error"]


def test_without_a_service_there_is_no_page_for_it(client: TestClient) -> None:
    assert "--service" in page(client, "/try", 404).text
    assert "Try an image" not in page(client, "/").text
