"""A SAM 3 of random weights through the front door and a run of chunks."""

from __future__ import annotations

import json
from collections.abc import Sequence
from dataclasses import replace
from pathlib import Path

import numpy as np
import pyarrow.parquet as pq
import pytest

from pad_pipeline import masks
from pad_pipeline.annotate.annotator import Annotator
from pad_pipeline.annotate.planner import propose
from pad_pipeline.annotate.probe import measure
from pad_pipeline.annotate.resume import open_or_resume
from pad_pipeline.annotate.samples import read_samples
from pad_pipeline.dataset.reader import iter_records, open_dataset
from pad_pipeline.dataset.validate import validate
from pad_pipeline.engine.build import build_chain, fingerprints
from pad_pipeline.engine.chain import Chain
from pad_pipeline.engine.config import AnnotateConfig, demo, sam3
from pad_pipeline.engine.costs import Costs
from pad_pipeline.engine.identity import identity
from pad_pipeline.engine.plan import plan
from pad_pipeline.engine.sample import to_record
from pad_pipeline.errors import UserError
from pad_pipeline.export.formats import export
from pad_pipeline.records import SCHEMAS, records_to_table
from pad_pipeline.scenes.generator import generate_scene
from pad_pipeline.sources import list_source
from tests import fakes
from tests.annotate.test_ledger import digests
from tests.models.sam3 import tiny

WORDS = "dog, red car, sky"


@pytest.fixture(scope="module")
def config(tmp_path_factory: pytest.TempPathFactory) -> AnnotateConfig:
    model = tiny.write_model(tmp_path_factory.mktemp("sam3"))
    preset = sam3()
    return replace(
        preset,
        detect=replace(preset.detect, model=str(model), box_threshold=0.3, batch_size=3),
        classes=WORDS,
        device="cpu",
        dtype="float32",
        chunk_size=4,
        rows_per_shard=8,
    )


@pytest.fixture(scope="module")
def annotator(config: AnnotateConfig) -> Annotator:
    return Annotator(config)


def photos(number: int) -> list[np.ndarray]:
    return [generate_scene(seed).image for seed in range(number)]


def test_tags_give_boxes_masks_and_presence(annotator: Annotator) -> None:
    image = photos(1)[0]
    [record] = annotator.annotate([image])
    assert record.status == "ok"
    assert [tag.tag for tag in record.tags] == WORDS.split(", ")
    assert all(0 < (tag.presence or 0) < 1 for tag in record.tags)
    for region in record.labels:
        assert region.tag in WORDS
        mask = masks.decode(region.rle_mask, *image.shape[:2])
        assert (region.area, region.predicted_iou) == (mask.sum(), 1.0)
    scores = [region.score for region in record.labels]
    assert scores == sorted(scores, reverse=True)
    assert all(
        region.score < next(tag.presence or 0 for tag in record.tags if tag.tag == region.tag)
        for region in record.labels
    )
    assert set(annotator.seconds) == {"decode", "tag", "detect"}


def test_words_of_a_call_and_of_captions(annotator: Annotator, config: AnnotateConfig) -> None:
    [record] = annotator.annotate(photos(1), classes=["boat"])
    assert [(tag.tag, tag.presence is None) for tag in record.tags] == [("boat", False)]
    with pytest.raises(UserError, match="boxes are given for 0, and no segmenter is loaded"):
        annotator.annotate(photos(1), boxes=[[(1, 2, 30, 40)]])
    named = replace(config, tag=replace(config.tag, from_="classes,captions"))
    [record] = Annotator(named).annotate(photos(1), captions=["a wooden boat on the lake"])
    assert {tag.origin for tag in record.tags} == {"classes", "captions"}
    assert all(tag.presence is not None for tag in record.tags)


def test_sam3_as_a_detector_alone(config: AnnotateConfig) -> None:
    """Its boxes, and the masks of a segmenter."""
    apart = replace(config, segment=demo().segment)
    assert apart.stage_names == ("tag", "detect", "suppress", "segment")
    [record] = Annotator(apart).annotate(photos(1))
    [joint] = Annotator(config).annotate(photos(1))
    assert [(r.tag, r.bbox) for r in record.labels] == [(r.tag, r.bbox) for r in joint.labels]
    assert {tag.presence for tag in record.tags} == {None}


def run(
    config: AnnotateConfig, chain: Chain, images: Path, output: Path, chunks: Sequence[int] = ()
) -> None:
    """A run of its chunks in this process, or of some of them and then killed."""
    ledger = open_or_resume(
        str(output),
        list_source(str(images)),
        identity(config, fingerprints(config)),
        rows_per_shard=config.rows_per_shard,
        chunk_size=config.chunk_size,
        schema_version=config.schema_version,
    )
    rows = list(list_source(str(images)))
    for chunk in [chunk for _, left in ledger.pending() for chunk in left]:
        if not chunks or chunk in chunks:
            samples = read_samples(rows[4 * chunk : 4 * chunk + 4])
            ledger.commit(chunk, records_to_table([to_record(one) for one in chain(samples)]))
    ledger.flush()
    if not chunks:
        ledger.finish({})


def test_a_killed_run_writes_the_same_bytes_and_the_records_have_presence(
    config: AnnotateConfig, tmp_path: Path
) -> None:
    fakes.write_images(tmp_path / "images", 11)
    chain = build_chain(config, {})
    run(config, chain, tmp_path / "images", tmp_path / "whole")
    run(config, chain, tmp_path / "images", tmp_path / "killed", chunks=[1])
    run(config, chain, tmp_path / "images", tmp_path / "killed")
    assert digests(tmp_path / "killed") == digests(tmp_path / "whole")
    url = str(tmp_path / "whole")
    shard = next((tmp_path / "whole").glob("*.parquet"))
    assert pq.read_schema(shard).equals(SCHEMAS[3], check_metadata=True)
    assert validate(url).ok
    records = list(iter_records(open_dataset(url)))
    assert all(tag.presence is not None for record in records for tag in record.tags)
    export(url, str(tmp_path / "coco.json"), "coco")
    written = json.loads((tmp_path / "coco.json").read_text())
    assert len(written["annotations"]) == sum(len(record.labels) for record in records) > 5


def test_plan_has_two_stages(config: AnnotateConfig, tmp_path: Path) -> None:
    fakes.write_images(tmp_path, 2)
    probe = measure(config, list(list_source(str(tmp_path))))
    assert [trial.stage for trial in probe.trials] == ["tag", "detect"]
    assert (set(probe.costs.models), probe.costs.suppress) == ({"detect"}, 0.0)
    tagged = replace(config, classes=None)
    proposal = propose(tagged, Costs(models={"tag": 0.01, "detect": 0.03}), 8, 1000)
    assert {name: share.workers for name, share in proposal.pools.shares.items()} == {
        "tag": 2,
        "detect": 6,
    }
    pools = plan(replace(tagged, layout="pools"), num_gpus=0)
    assert [(spec.name, spec.keep_bytes) for spec in pools] == [("tag", True), ("detect", False)]
    # without a measurement: as much as the detector and the segmenter that it takes the place of
    on_gpus = replace(tagged, device="cuda", layout="pools")
    sizes = {spec.name: spec.pool.max_workers for spec in plan(on_gpus, num_gpus=8)}
    assert sizes == {"tag": 1, "detect": 7}
