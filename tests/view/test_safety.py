"""Names, captions, files and requests that mean harm."""

from __future__ import annotations

from pathlib import Path

import pytest
from PIL import Image
from starlette.testclient import TestClient

from pad_pipeline.records import RecordError, Tag
from pad_pipeline.view.addresses import of_image
from tests.dataset.example import ellipse, record, region, write_dataset
from tests.view.conftest import open_client
from tests.view.html import page

NAMES = (
    "<script>alert(1)</script>\"'.png",
    "a/../../outside.png",
    "new\nline\ttab.png",
    "مرحبا שלום.png",
    "🦊.png",
    "..",
    ".",
    "",
    "a?c=d&e#f.png",
    "ä" * 120 + ".png",
)
"""Ids that a data set from anyone may have."""


@pytest.mark.parametrize("name", NAMES)
def test_any_name_shows_as_text_and_has_a_page(tmp_path: Path, name: str) -> None:
    evil = "<img src=x onerror=alert(1)>\"'\n\u202eעברית 🦊"
    mask = ellipse(12, 10, 8, 7)
    one = record(
        0,
        [region(evil, mask, 0.9)],
        image_id=name,
        caption=evil,
        tags=(Tag(evil, 0.8), Tag("</script>", 0.7)),
    )
    broken = RecordError(evil, evil, evil)
    other = record(1, status="failed", error=broken, image_id="<b>failed</b>", width=0, height=0)
    client = open_client(Path(write_dataset(tmp_path / "data", [one, other])))
    grid = page(client, "/")
    links = [link for link in grid.all("a", "href") if link.startswith("/image/")]
    assert len(links) == 2
    for address in (*links, of_image(name, query="q=עברית"), "/tags", "/stats", "/failures"):
        found = page(client, address)
        # Only what the templates hold: markup of the data would be elements of its own.
        assert found.all("img", "onerror") == []
        assert found.all("script", "src") == [
            source for source in found.all("script", "src") if source.startswith("/static/")
        ]
        assert len([kind for kind, _ in found.elements if kind == "script"]) == len(
            found.all("script", "src")
        )
    assert name in page(client, links[0]).text
    assert evil in page(client, links[0]).text
    assert client.get(of_image(name, "api/record")).json()["image_id"] == name
    tag = page(client, "/tags?" + "name=" + of_image(evil, "x")[3:])
    assert evil in tag.text
    [to_tag] = [link for link in tag.all("a", "href") if link.startswith("/?tag=")][:1]
    assert "1–1 of 1" in page(client, to_tag).text


def test_no_name_leads_out_of_the_image_folder(tmp_path: Path) -> None:
    outside = tmp_path / "outside.png"
    Image.new("RGB", (40, 30), "red").save(outside)
    (tmp_path / "images").mkdir()
    (tmp_path / "images/link.png").symlink_to(outside)
    (tmp_path / "images/folder").symlink_to(tmp_path)
    Image.new("RGB", (40, 30), "blue").save(tmp_path / "images/inside.png")
    labels = [region("apple", ellipse(12, 10, 8, 7))]
    names = ["../outside.png", "link.png", "folder/outside.png", f"/..{outside}", "inside.png"]
    records = [record(0, labels, image_id=name) for name in names]
    data = Path(write_dataset(tmp_path / "data", records))
    client = open_client(data, images=str(tmp_path / "images"))
    for name in names:
        for kind in ("thumb", "picture", "annotated"):
            answer = client.get(of_image(name, kind))
            is_missing = answer.headers.get("x-picture") == "missing"
            assert is_missing == (name != "inside.png"), name
    assert "leads out of the image folder" in page(client, of_image("link.png")).text


def test_a_file_that_is_no_picture_never_leaves_the_server(tmp_path: Path) -> None:
    secret = tmp_path / "secret"
    secret.write_text("the password is swordfish")
    one = record(0, [region("apple", ellipse(12, 10, 8, 7))], uri=str(secret))
    client = open_client(Path(write_dataset(tmp_path / "data", [one])))
    for kind in ("thumb", "picture", "annotated", "image"):
        answer = client.get(of_image(one.image_id, kind))
        assert b"swordfish" not in answer.content
    for path in ("/static/../app.py", "/static/..%2Fapp.py", "/static/style.css%00"):
        assert client.get(path).status_code == 404


def test_answers_are_for_this_page_and_this_machine_alone(client: TestClient) -> None:
    answer = client.get("/")
    policy = answer.headers["content-security-policy"]
    assert "default-src 'none'" in policy
    assert "unsafe" not in policy
    assert answer.headers["x-content-type-options"] == "nosniff"
    assert client.get("/", headers={"host": "evil.example"}).status_code == 421
    assert client.get("/", headers={"host": "localhost:8500"}).status_code == 200
    for method in ("post", "put", "delete", "patch"):
        assert getattr(client, method)("/").status_code == 405
    assert "style=" not in answer.text
