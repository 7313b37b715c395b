"""The embedded models: the same records in process, fused and pooled, of the quality promised."""

from __future__ import annotations

import json
from dataclasses import replace
from pathlib import Path

import pyarrow.parquet as pq
import pytest

from pad_pipeline.annotate.annotator import Annotator
from pad_pipeline.annotate.run import annotate
from pad_pipeline.engine.config import AnnotateConfig, demo
from pad_pipeline.records import PadRecord, table_to_records
from pad_pipeline.scenes.generator import generate_scene
from pad_pipeline.scenes.quality import measure
from pad_pipeline.scenes.writer import HELD_OUT_SEED, write_scenes

NUM_SCENES = 10
NUM_HELD_OUT = 60


def config() -> AnnotateConfig:
    """Three chunks in two shards."""
    return replace(demo(), chunk_size=4, rows_per_shard=8)


@pytest.fixture(scope="module")
def images(tmp_path_factory: pytest.TempPathFactory) -> list[Path]:
    folder = tmp_path_factory.mktemp("scenes")
    write_scenes(folder, num_images=NUM_SCENES, seed=3)
    return sorted((folder / "images").iterdir())


@pytest.fixture(scope="module")
def in_process(images: list[Path]) -> list[PadRecord]:
    return Annotator(config()).annotate(images)


@pytest.fixture(scope="module")
def on_ray(
    images: list[Path], local_ray: None, tmp_path_factory: pytest.TempPathFactory
) -> dict[str, Path]:
    """The data sets of both layouts."""
    folder = tmp_path_factory.mktemp("layouts")
    for layout in ("fused", "pools"):
        annotate(str(images[0].parent), str(folder / layout), replace(config(), layout=layout))
    return {layout: folder / layout for layout in ("fused", "pools")}


def test_the_models_find_things_in_process(in_process: list[PadRecord]) -> None:
    assert len(in_process) == NUM_SCENES
    assert sum(record.status == "ok" for record in in_process) > NUM_SCENES * 0.9
    assert sum(len(record.labels) for record in in_process) > 2 * NUM_SCENES


@pytest.mark.ray
@pytest.mark.parametrize("layout", ["fused", "pools"])
def test_on_ray_the_records_are_those_in_process(
    images: list[Path], in_process: list[PadRecord], on_ray: dict[str, Path], layout: str
) -> None:
    records = table_to_records(pq.read_table(on_ray[layout]))
    assert [record.image_id for record in records] == [path.name for path in images]
    for ours, theirs in zip(records, in_process, strict=True):
        # ids and places differ, since a list of files has no folder that they are relative to
        assert replace(ours, image_id="", uri="") == replace(theirs, image_id="", uri="")


@pytest.mark.ray
def test_both_layouts_write_the_same_bytes(on_ray: dict[str, Path]) -> None:
    fused, pools = (
        {path.name: path.read_bytes() for path in on_ray[layout].glob("*.parquet")}
        for layout in ("fused", "pools")
    )
    assert len(fused) == 2
    assert fused == pools


@pytest.mark.ray
def test_the_manifest_says_what_made_the_data_set(on_ray: dict[str, Path]) -> None:
    fused, pools = (
        json.loads((on_ray[layout] / "_manifest.json").read_text()) for layout in on_ray
    )
    assert fused["state"] == "finished"
    assert fused["identity"] == pools["identity"]
    assert fused["identity"]["detect"]["box_threshold"] == demo().detect.box_threshold
    assert set(fused["models"]) == {"tag", "detect", "segment"}
    for model in fused["models"].values():
        assert model["model"] == "embedded"
        assert model["checksum"].startswith("sha256:")
    assert {"torch", "transformers", "ray", "pad_pipeline", "python"} <= fused["versions"].keys()


def test_images_are_judged_alone_whatever_travels_with_them(
    images: list[Path], in_process: list[PadRecord]
) -> None:
    """Other chunks may differ in the last bit of a sum, but not in what is found."""
    records = Annotator(replace(config(), chunk_size=1)).annotate(images[:6])
    for alone, together in zip(records, in_process, strict=False):
        assert [tag.tag for tag in alone.tags] == [tag.tag for tag in together.tags]
        assert [region.tag for region in alone.labels] == [r.tag for r in together.labels]
        for one, other in zip(alone.labels, together.labels, strict=True):
            assert one.bbox == pytest.approx(other.bbox, abs=0.05)
            assert one.area == pytest.approx(other.area, rel=0.01)


def test_the_quality_on_scenes_that_training_never_saw() -> None:
    scenes = [generate_scene(HELD_OUT_SEED + 5_000_000 + k) for k in range(NUM_HELD_OUT)]
    records = Annotator(demo()).annotate([scene.image for scene in scenes])
    quality = measure(records, scenes)
    assert quality.tag_f1 >= 0.95, quality
    assert quality.ap50 >= 0.88, quality
    assert quality.mask_iou >= 0.88, quality
