"""The page of trained runs, on maps as `analyze` writes them; and maps that are damaged."""

from __future__ import annotations

import json
from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest

from pad_pipeline.errors import UserError
from pad_pipeline.evaluate.maps import ImageMaps, RegionMap, write_maps
from pad_pipeline.view.runs import read_runs
from tests.dataset.example import example_records
from tests.view.conftest import open_client
from tests.view.html import page
from tests.view.vlsa_run import write_vlsa_run


def maps(shift: int) -> ImageMaps:
    """Two by two patches, of which the region covers one."""
    covered = np.array([True, False, False, False])
    return ImageMaps(
        image_id=example_records()[0].image_id,
        frame=np.full((28, 28, 3), 90, np.uint8),
        grid=2,
        regions=[RegionMap("apple", covered, np.roll(covered, shift), 1.0 if shift == 0 else 0.0)],
        words=[["apple", "<b>", "▁the", "apple"], ["##s", "red", "apple", "of"]],
        cosines_KP=np.linspace(-0.2, 0.9, 8, dtype=np.float32).reshape(2, 4),
    )


@pytest.fixture
def analysis(tmp_path: Path) -> Path:
    folder = tmp_path / "analysis"
    for number, (name, shift) in enumerate((("random", 1), ("patch-aligned", 0))):
        write_maps(
            folder,
            number,
            name,
            [maps(shift)],
            threshold="otsu",
            measures={"align": 1.0 - shift, "cosine": 0.5, "delta_entropy": 0.1},
        )
    return folder


def test_every_variant_has_its_maps(shared_data: Path, analysis: Path) -> None:
    client = open_client(
        shared_data, images=str(shared_data.parent / "images"), runs=[str(analysis)]
    )
    found = page(client, "/runs")
    variants = [attrs for kind, attrs in found.elements if attrs.get("class") == "variant"]
    assert [attrs["data-name"] for attrs in variants] == ["random", "patch-aligned"]
    assert ["hidden" in attrs for attrs in variants] == [False, False]  # side by side
    paths = {kind: [] for kind in ("covered", "hit", "outside")}
    for tag, attrs in found.elements:
        if tag == "path" and attrs["class"] in paths:
            paths[attrs["class"]].append(attrs["d"])
    assert paths["covered"] == ["M0 0h1v1h-1z"] * 2
    assert paths["hit"] == ["", "M0 0h1v1h-1z"]
    assert paths["outside"] == ["M1 0h1v1h-1z", ""]
    assert found.text.count("apple") >= 6
    inks = {
        attrs.get("fill")
        for tag, attrs in found.elements
        if tag == "text" and "known" in str(attrs)
    }
    assert len(inks) == 4  # apple, the, red, of: a colour each, the same in both variants
    assert example_records()[0].image_id in found.text
    assert "<b>" in found.text
    for source in {source for source in found.all("image", "href") if "/runs/frame/" in source}:
        assert client.get(source).content.startswith(b"\x89PNG")
    shown = page(client, "/runs?variant=random")
    assert [
        "hidden" in attrs for _, attrs in shown.elements if attrs.get("class") == "variant"
    ] == [False, True]
    assert "no run has an image" in page(client, "/runs?image=other", 404).text


def test_an_image_that_was_drawn_for_the_run_says_what_it_is(
    shared_data: Path, tmp_path: Path
) -> None:
    drawn = replace(maps(0), image_id="scene 40000003", caption="A snail on the left.")
    write_maps(tmp_path, 0, "random", [maps(0), drawn], threshold="otsu", measures={})
    client = open_client(shared_data, runs=[str(tmp_path)])
    found = page(client, "/runs?image=scene+40000003").text
    assert "A snail on the left." in found
    assert "not an image of this data set" in found
    own = page(client, "/runs").text
    assert "picture number 0" in own  # the data set's caption
    assert "its record" in own


def test_the_random_projector_of_two_analyses_is_shown_once(
    shared_data: Path, analysis: Path
) -> None:
    client = open_client(shared_data, runs=[str(analysis), str(analysis)])
    assert page(client, "/runs").text.count("IoU 0.00") == 1


def test_reconstructions_of_vlsa_runs_stand_above(
    shared_data: Path, analysis: Path, tmp_path: Path
) -> None:
    runs = [write_vlsa_run(tmp_path / stage, stage) for stage in ("vlsa-1", "vlsa-2")]
    client = open_client(shared_data, runs=[str(runs[0]), str(analysis), str(runs[1])])
    found = page(client, "/runs")
    assert "vlsa-1 stage 1 after VLSA" in found.text
    assert "12.5 dB" in found.text
    assert "0.250" in found.text
    assert found.text.index("vlsa-2") < found.text.index("Align")
    pictures = [src for src in found.all("img", "src") if "reconstructions" in src]
    assert pictures == ["/runs/reconstructions/0", "/runs/reconstructions/1"]
    assert client.get(pictures[1]).content == (runs[1] / "reconstructions.png").read_bytes()
    alone = open_client(shared_data, runs=[str(runs[0])])
    assert "Tokenmaps" not in page(alone, "/runs").text
    assert "no run has an image" in page(alone, "/runs?image=other", 404).text
    (runs[0] / "reconstructions.png").unlink()
    assert "there is no such picture" in page(alone, "/runs/reconstructions/0", 404).text


@pytest.mark.parametrize(
    ("facts", "sentence"),
    [
        ({"state": "running"}, "is not finished, and reconstructs images at its end"),
        ({"reconstruction_psnr": None}, "reconstructed no image: none of its held-out samples"),
        ({"last": [1]}, r"run\.json is damaged"),
        ({"reconstruction_psnr": "much"}, r"run\.json is damaged"),
        ({"stage": "pretrain"}, "has no maps of single images"),
    ],
)
def test_a_run_without_reconstructions_says_why(
    shared_data: Path, tmp_path: Path, facts: dict, sentence: str
) -> None:
    run = write_vlsa_run(tmp_path / "run", **facts)
    with pytest.raises(UserError, match=sentence):
        open_client(shared_data, runs=[str(run)])


def damage(change) -> object:
    def apply(path: Path) -> None:
        found = json.loads(path.read_text())
        change(found)
        path.write_text(json.dumps(found))

    return apply


DAMAGE = {
    "no JSON": lambda path: path.write_text("{"),
    "no object": lambda path: path.write_text("[]"),
    "no grid": damage(lambda found: found.pop("grid")),
    "a frame elsewhere": damage(lambda found: found["images"][0].update(frame="../../secret.png")),
    "a token outside": damage(lambda found: found["images"][0]["regions"][0].update(covered=[4])),
    "words that lack one": damage(lambda found: found["images"][0]["words"][0].pop()),
    "a colour that is code": damage(
        lambda found: found["images"][0].update(colours={"apple": "url(//x)"})
    ),
}


@pytest.mark.parametrize("kind", DAMAGE)
def test_damaged_maps_are_named(analysis: Path, kind: str) -> None:
    path = sorted((analysis / "maps").glob("*.json"))[0]
    DAMAGE[kind](path)
    with pytest.raises(UserError, match=r"00-random\.json is damaged"):
        read_runs(str(analysis))


def test_a_folder_without_maps_says_what_makes_them(tmp_path: Path) -> None:
    with pytest.raises(UserError, match="has no maps of single images: give the folder that"):
        read_runs(str(tmp_path))
    with pytest.raises(UserError, match="expected a folder on this machine"):
        read_runs(str(tmp_path / "nowhere"))
