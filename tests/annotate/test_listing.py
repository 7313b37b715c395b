"""What a config takes as given with the images of a source."""

from __future__ import annotations

import json
from dataclasses import replace
from pathlib import Path

import pytest

from pad_pipeline.annotate.listing import list_given
from pad_pipeline.engine.config import AnnotateConfig, DetectConfig, TagConfig, demo
from pad_pipeline.errors import UserError
from pad_pipeline.sources import ManifestRow
from tests.sources.samples import image, write


def listed(folder: Path, config: AnnotateConfig, captions: str | None = None) -> list[ManifestRow]:
    return list(list_given(str(folder / "images"), config, captions=captions, images=None))


@pytest.fixture
def folder(tmp_path: Path) -> Path:
    write(f"{tmp_path}/images", {f"{name}.jpg": image() for name in "abc"})
    return tmp_path


def tags_from(origins: str, **changes: object) -> AnnotateConfig:
    return replace(demo(), tag=TagConfig(model="a", from_=origins), **changes)


def test_images_without_a_caption_are_counted_where_captions_are_asked_for(
    folder: Path, caplog
) -> None:
    path = folder / "captions.json"
    path.write_text(json.dumps({"b.jpg": "a dog"}))
    assert len(listed(folder, tags_from("captions"), str(path))) == 3
    assert "2 of 3 images have no caption to take tags from (a.jpg, c.jpg)" in caplog.text
    with pytest.raises(UserError, match=r"no image of .* has a caption, which tag\.from_"):
        listed(folder, tags_from("captions"))


def test_what_is_taken_must_be_named(folder: Path) -> None:
    with pytest.raises(UserError, match=r"tag\.from_='classes' needs classes"):
        listed(folder, tags_from("classes"))
    with pytest.raises(UserError, match=r"detect\.from_='boxes' needs detect\.boxes"):
        listed(folder, replace(demo(), detect=DetectConfig(model="a", from_="boxes")))
    with pytest.raises(UserError, match="images has no column 'tags'"):
        listed(folder, tags_from("column"))
