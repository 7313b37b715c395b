"""The pages made from embeddings, on scenes of which two are there in a second copy."""

from __future__ import annotations

import json
import re
import shutil
from pathlib import Path

import numpy as np
import pytest
from starlette.testclient import TestClient

from pad_pipeline.similarity.config import EmbedConfig
from pad_pipeline.similarity.embed import embed
from tests.similarity.scenes import write_scenes_with_copies
from tests.view.conftest import open_client


@pytest.fixture(scope="module")
def scenes(tmp_path_factory: pytest.TempPathFactory) -> str:
    url = write_scenes_with_copies(tmp_path_factory.mktemp("look-alikes"))
    embed(url, config=EmbedConfig(map="pca"))
    return url


@pytest.fixture
def alike(scenes: str) -> TestClient:
    return open_client(scenes)


def ids_on(page: str) -> list[str]:
    return re.findall(r'class="id"><bdi>(.*?)</bdi>', page)


def test_the_copy_of_an_image_is_most_like_it(alike: TestClient) -> None:
    page = alike.get("/similar/scene_0.png").text
    found = ids_on(page)
    assert found[0] == "copy/jpeg.jpg"
    assert len(found) == len(set(found)) == 7  # all but itself and the failed one
    assert "scene_0.png" not in found
    assert 'href="/similar/scene_0.png"' in alike.get("/image/scene_0.png").text


def test_regions_are_like_regions(alike: TestClient, scenes: str) -> None:
    record = alike.get("/api/record/scene_1.png").json()
    assert len(record["labels"]) >= 2
    page = alike.get("/similar/scene_1.png?region=1").text
    assert ids_on(page)[0] == "copy/smaller.jpg"
    assert "/image/copy%2Fsmaller.jpg?region=1" in page
    assert alike.get("/image/scene_1.png").text.count('class="like"') == len(record["labels"])


@pytest.mark.parametrize(
    ("path", "status", "sentence"),
    [
        ("/similar/nowhere.png", 404, "no image called"),
        ("/similar/broken.png", 400, "the image has no embedding: it failed"),
        ("/similar/scene_0.png?region=99", 400, "this region has no embedding"),
        ("/similar/scene_0.png?region=-1", 400, "expected region"),
        ("/?lasso=12", 400, "expected lasso to be corners from 0 to 999, as 120.80-300.90"),
        ("/map/nearest?x=1000&y=0", 400, "expected x"),
    ],
)
def test_what_is_not_there_is_said(
    alike: TestClient, path: str, status: int, sentence: str
) -> None:
    answer = alike.get(path)
    assert answer.status_code == status
    assert sentence in answer.text


def test_near_duplicates_are_listed(alike: TestClient) -> None:
    page = alike.get("/duplicates").text
    assert ids_on(page) == ["scene_0.png", "copy/jpeg.jpg", "scene_1.png", "copy/smaller.jpg"]
    assert "No two images are this similar" in alike.get("/duplicates?min_similarity=1").text


def test_a_part_of_the_map_filters_the_images(alike: TestClient) -> None:
    data = alike.get("/map/points").content
    number = len(data) // 5
    cells = np.frombuffer(data, "<u4", number)
    assert number == 8
    x, y = cells % 1000, cells // 1000
    assert (x.min(), x.max()) == (20, 979)
    nearest = alike.get(f"/map/nearest?x={x[0]}&y={y[0]}").json()
    assert nearest["image_id"] == "scene_0.png"
    assert alike.get("/map/nearest?x=0&y=0").json() is None

    def chosen(lasso: str) -> int:
        return alike.get(f"/api/records?lasso={lasso}").json()["total"]

    assert chosen("0.0-999.999") == 8
    a, b, c, d = x[0] - 5, y[0] - 5, x[0] + 5, y[0] + 5
    inside = (abs(x - x[0].astype(int)) <= 5) & (abs(y - y[0].astype(int)) <= 5)
    assert chosen(f"{a}.{b}-{c}.{d}") == inside.sum()
    assert chosen(f"{a}.{b}-{c}.{b}-{c}.{d}-{a}.{d}") == inside.sum()
    assert chosen(f"{c}.{d}-{a}.{b}&tag=nothing") == 0
    assert len(alike.get("/api/ids?lasso=0.0-999.999").text.split()) == 8  # what `export` takes
    grid = alike.get(f"/?lasso={a}.{b}-{c}.{d}").text
    assert len(ids_on(grid)) == inside.sum()
    assert "a part of the map" in grid
    assert f"lasso={a}.{b}-{c}.{d}" in grid  # a card's address keeps it


def test_without_embeddings_the_pages_name_the_command(client: TestClient) -> None:
    assert "pad-pipeline embed /" in client.get("/map").text
    for path in (
        "/map?lasso=1.1-9.9",
        "/duplicates",
        "/similar/00000%2F00000000.png",
        "/?lasso=1.1-9.9",
    ):
        answer = client.get(path)
        assert answer.status_code == 400
        assert "has no embeddings: make them with `pad-pipeline embed" in answer.text
    assert "more like this" not in client.get("/image/00000%2F00000000.png").text


def test_unfinished_embeddings_and_lost_indexes_are_said(scenes: str, tmp_path: Path) -> None:
    for name in ("set", "set.embeddings"):
        shutil.copytree(Path(scenes).parent / name, tmp_path / name)
    alike = open_client(tmp_path / "set")
    index = tmp_path / "set.embeddings/_images.faiss"
    index.write_bytes(b"nothing")
    assert "is damaged: run `pad-pipeline embed`" in alike.get("/similar/scene_0.png").text
    index.unlink()
    assert "is not there: run `pad-pipeline embed` again" in alike.get("/similar/scene_0.png").text
    manifest = tmp_path / "set.embeddings/_manifest.json"
    facts = json.loads(manifest.read_text())
    manifest.write_text(json.dumps({**facts, "state": "running"}))
    assert "are not finished: run `pad-pipeline embed" in alike.get("/map").text
