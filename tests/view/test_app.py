"""Errors, notices and links on all pages of the viewer."""

from __future__ import annotations

import json
from pathlib import Path

from starlette.testclient import TestClient

from tests.view.conftest import open_client
from tests.view.html import Page, page


def test_every_page_opens_and_every_link_of_it_leads_somewhere(client: TestClient) -> None:
    seen: set[str] = set()
    waiting = ["/"]
    while waiting and len(seen) < 250:
        address = waiting.pop(0)
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


def test_without_the_images_a_notice_names_the_option(data: Path) -> None:
    found = page(open_client(data), "/")
    assert "The images cannot be read where they were annotated" in found.text
    assert "start `pad-pipeline view` with --images" in found.text
    assert "1–7 of 7" in found.text


def test_damage_and_growth_are_noted_on_every_page(data: Path) -> None:
    shard = data / "pad-00001.parquet"
    shard.write_bytes(shard.read_bytes()[:-100])
    manifest = json.loads((data / "_manifest.json").read_text())
    running = {**manifest, "state": "running", "num_images": 9}
    (data / "_manifest.json").write_text(json.dumps(running))
    client = open_client(data, images=str(data.parent / "images"))
    for address in ("/", "/tags", "/stats", "/failures"):
        text = page(client, address).text
        assert "The shard pad-00001.parquet cannot be read and is left out" in text
        assert "still being written: 4 of 9 images" in text
    health = client.get("/healthz").json()
    assert (health["status"], health["state"], health["images"]) == ("ok", "running", 4)
    assert "pad-00001.parquet" in health["unreadable_shards"]
