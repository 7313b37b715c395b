"""The check of real weights, on the embedded models and drawn scenes, which they know."""

from __future__ import annotations

import json
from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest
from PIL import Image

from pad_pipeline.errors import UserError
from pad_pipeline.models.base import Runtime
from pad_pipeline.models.references import EMBEDDED_WEIGHTS, Role
from pad_pipeline.photos.check import Finding, Verdict, check_model
from pad_pipeline.photos.facts import Photograph, Thing
from pad_pipeline.scenes.generator import Scene, generate_scene
from tests.cli.runner import call

NUM_SCENES = 4


@pytest.fixture(scope="module")
def scenes() -> list[Scene]:
    return [generate_scene(seed + 1_000_000) for seed in range(NUM_SCENES)]


@pytest.fixture(scope="module")
def photographs(scenes: list[Scene], tmp_path_factory: pytest.TempPathFactory) -> list[Photograph]:
    """Scenes as photographs: the largest thing of each, with a point in its middle and one off."""
    folder = tmp_path_factory.mktemp("photographs")
    found = []
    for number, scene in enumerate(scenes):
        path = folder / f"{number}.png"
        Image.fromarray(scene.image).save(path)
        thing = max(scene.things, key=lambda thing: thing.mask.sum())
        inside, outside = far_inside(thing.mask), far_inside(~thing.mask)
        box = tuple(map(float, thing.bbox_xyxy))
        found.append(
            Photograph(path, ((thing.kind,),), (Thing(thing.kind, box, (inside,), (outside,)),))
        )
    return found


def far_inside(mask: np.ndarray) -> tuple[int, int]:
    """The pixel (x, y) of a mask that is farthest from its edge."""
    from scipy.ndimage import distance_transform_edt

    distance = np.asarray(distance_transform_edt(np.pad(mask, 1)))[1:-1, 1:-1]
    y, x = np.unravel_index(int(distance.argmax()), mask.shape)
    return int(x), int(y)


@pytest.mark.parametrize("role", ["tagger", "detector", "segmenter"])
def test_a_model_that_knows_the_pictures_passes_and_with_wrong_facts_fails(
    role: Role, photographs: list[Photograph]
) -> None:
    name = str(EMBEDDED_WEIGHTS / role)
    verdict = check_model(name, photographs, Runtime())
    assert verdict.role == role
    assert verdict.passed, verdict
    wrong = [
        replace(
            photo,
            tags=(("unicorn",),),
            things=tuple(
                replace(
                    thing,
                    tag="unicorn",
                    inside=thing.outside,
                    outside=thing.inside,
                )
                for thing in photo.things
            ),
        )
        for photo in photographs
    ]
    refuted = check_model(name, wrong, Runtime())
    assert not refuted.passed
    assert all(finding.missed for finding in refuted.findings)


def test_one_miss_is_forgiven_two_are_not() -> None:
    right, wrong = Finding("a", ()), Finding("b", ("mask of b",))
    assert Verdict("m", "segmenter", (right, right, wrong)).passed
    assert not Verdict("m", "segmenter", (right, wrong, wrong)).passed
    assert not Verdict("m", "segmenter", (wrong,)).passed


def test_photographs_without_facts_for_a_role_are_refused(photographs: list[Photograph]) -> None:
    bare = [replace(photo, tags=()) for photo in photographs]
    with pytest.raises(UserError, match="none of the photographs has facts for a tagger"):
        check_model(str(EMBEDDED_WEIGHTS / "tagger"), bare, Runtime())


def test_the_command_says_what_was_missed(
    photographs: list[Photograph], tmp_path: Path, capfd: pytest.CaptureFixture[str]
) -> None:
    entries = [
        {"file": str(photo.path), "tags": [["unicorn"]] if index < 2 else photo.tags}
        for index, photo in enumerate(photographs)
    ]
    (tmp_path / "facts.json").write_text(json.dumps(entries))
    tagger = EMBEDDED_WEIGHTS / "tagger"
    outcome = call(capfd, "models", "check", tagger, "--facts", tmp_path / "facts.json")
    assert (outcome.code, outcome.err) == (1, "")
    assert outcome.out.endswith(f"tagger {tagger} FAILS: right in 2 of 4 photographs\n")
    assert "unicorn" in outcome.out
    (tmp_path / "model.pth").write_bytes(b"")
    outcome = call(capfd, "models", "check", tmp_path / "model.pth")
    assert outcome.code == 1
    assert "does not say whether it is a tagger" in outcome.err
