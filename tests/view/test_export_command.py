"""The command that a page shows exports what the page shows, with the marks."""

from __future__ import annotations

import json
import shlex
from pathlib import Path

import pytest
from starlette.testclient import TestClient

from pad_pipeline.review.events import region_digest
from pad_pipeline.storage.id_files import read_ids
from tests.cli.runner import call
from tests.dataset.example import example_records
from tests.view.conftest import open_client
from tests.view.html import page

RECORDS = example_records()


def mark(client: TestClient, kind: str, value: str, image: int, number: int | None = None) -> None:
    event = {"kind": kind, "value": value, "image": RECORDS[image].image_id}
    if number is not None:
        event["region"] = number
        event["digest"] = region_digest(RECORDS[image].labels[number])
    assert client.post("/api/review", json=event).status_code == 200


def shown(client: TestClient, query: str) -> set[int]:
    """Numbers of the images that pass, failed ones left out, which no export has."""
    found = client.get(f"/api/records?limit=100&{query}").json()["records"]
    return {int(one["image_id"][-6:-4]) for one in found if one["status"] != "failed"}


def exported(client: TestClient, capfd, query: str, folder: Path) -> dict[int, list[str]]:
    """Tags by image after the page's own command; the file of ids is fetched from the client."""
    read_ids.cache_clear()  # the files have the same name
    text = page(client, f"/?{query}").text.partition("Export these images")[2]
    *first, command = text.partition("Copy")[0].strip().splitlines()
    for line in first:
        words = shlex.split(line)
        assert words[:4] == ["curl", "--fail", "--output", "ids.txt"]
        answer = client.get(words[4].removeprefix("http://127.0.0.1:8500"))
        (folder / "ids.txt").write_bytes(answer.content)
    program, *words = shlex.split(command)
    assert program == "pad-pipeline"
    outcome = call(capfd, *words)
    assert outcome.code == 0, outcome.err
    coco = json.loads((folder / "export.json").read_text())
    (folder / "export.json").unlink()
    names = {one["id"]: one["name"] for one in coco["categories"]}
    images = {one["id"]: int(one["file_name"][-6:-4]) for one in coco["images"]}
    found: dict[int, list[str]] = {number: [] for number in images.values()}
    for one in coco["annotations"]:
        found[images[one["image_id"]]].append(names[one["category_id"]])
    return found


def test_without_marks_it_exports_the_images_that_are_shown(
    data: Path, tmp_path: Path, capfd, monkeypatch
) -> None:
    monkeypatch.chdir(tmp_path)
    client = open_client("data", images="images")
    for query in (
        *("", "tag=apple", "tag=tree&min_score=0.65", "min_score=0.6", "min_area=120"),
        *("min_iou=0.8", "status=ok", "status=empty", "status=ok&min_score=0.3", "q=number+4"),
        *("image=00000", "tag=apple&tag=sail+boat", "tag=cloud&boxed=no", "max_regions=0"),
    ):
        assert set(exported(client, capfd, query, tmp_path)) == shown(client, query), query


@pytest.mark.parametrize("place", [None, "our marks.jsonl"])
def test_with_marks_it_exports_what_they_leave(
    data: Path, tmp_path: Path, capfd, monkeypatch, place: str | None
) -> None:
    monkeypatch.chdir(tmp_path)
    client = open_client("data", images="images", review=place)
    mark(client, "verdict", "rejected", 0, 0)
    mark(client, "tag", "yacht", 0, 1)
    mark(client, "verdict", "rejected", 3)
    mark(client, "verdict", "accepted", 4, 0)
    mark(client, "verdict", "flagged", 5)
    for query, expected in (
        ("", {0: ["yacht"], 1: [], 4: ["tree", "tree"], 5: [], 6: ["çay — bardağı"]}),
        ("review=accepted", {4: ["tree"]}),
        ("review=rejected", {0: ["apple", "yacht"], 3: ["apple"]}),
        ("review=renamed", {0: ["yacht"]}),
        ("review=flagged", {5: []}),
        ("review=unmarked&min_regions=1", {6: ["çay — bardağı"]}),
        ("tag=yacht", {0: ["yacht"]}),
        ("tag=tree&min_score=0.65", {4: ["tree"]}),
    ):
        assert exported(client, capfd, query, tmp_path) == expected, query


def test_renamed_tags_alone_need_the_file_to_be_named(data: Path, monkeypatch) -> None:
    monkeypatch.chdir(data.parent)
    client = open_client("data", images="images")
    command = "pad-pipeline export data export.json --format coco"
    assert f"{command} Copy" in " ".join(page(client, "/review").text.split())
    mark(client, "tag", "yacht", 0, 1)
    text = " ".join(page(client, "/review").text.split())
    assert f"{command} --review data/_review.jsonl Copy" in text


def test_filters_find_marks_as_soon_as_they_are_set(data: Path) -> None:
    client = open_client(data)
    kinds = ("accepted", "rejected", "flagged", "renamed", "unmarked")
    assert [len(shown(client, f"review={kind}")) for kind in kinds] == [0, 0, 0, 0, 6]
    mark(client, "verdict", "accepted", 0)
    assert shown(client, "review=accepted") == {0}
    mark(client, "verdict", "rejected", 0)
    assert shown(client, "review=accepted") == set()
    assert shown(client, "review=rejected&tag=apple") == {0}
    assert shown(client, "review=unmarked&status=ok") == {3, 4, 6}
    assert "marks: rejected" in page(client, "/?review=rejected").text
    assert client.get("/api/ids?review=rejected").text == f"{RECORDS[0].image_id}\n"


def test_views_have_names_and_can_be_taken_away(data: Path) -> None:
    client = open_client(data)
    assert "Save view" not in page(client, "/").text
    assert "Save view" in page(client, "/?tag=apple").text
    event = {"kind": "view", "name": "my <apples>", "value": "tag=apple"}
    assert client.post("/api/review", json=event).status_code == 200
    assert "/?tag=apple" in page(client, "/").all("a", "href")
    assert "my <apples>" in page(client, "/review").text
    assert client.post("/api/review", json={**event, "value": None}).status_code == 200
    assert "my <apples>" not in page(client, "/").text
    text = " ".join(page(client, "/review").text.split())
    assert "removed the view my <apples>" in text
