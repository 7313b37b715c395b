"""Chunks in flight and batches of one size, over a ledger: the same bytes however a run goes."""

from __future__ import annotations

import random
from concurrent.futures import ThreadPoolExecutor
from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest

from pad_pipeline.annotate.ledger import Ledger
from pad_pipeline.annotate.resume import keep_chunks_of_earlier_version, open_or_resume
from pad_pipeline.annotate.samples import read_samples
from pad_pipeline.dataset.manifest import write_manifest
from pad_pipeline.engine.chain import Chain
from pad_pipeline.engine.config import AnnotateConfig, DetectConfig, paper
from pad_pipeline.engine.identity import identity
from pad_pipeline.engine.lanes import Lanes, open_lanes
from pad_pipeline.engine.sample import to_record
from pad_pipeline.engine.stages import Seconds, detect_stage
from pad_pipeline.errors import UserError
from pad_pipeline.models.protocols import Boxes
from pad_pipeline.records import records_to_table
from pad_pipeline.sources import list_source
from tests import fakes
from tests.annotate.test_ledger import digests

NUM_CHUNKS = 6


class Company(fakes.FakeDetector):
    """Scores that tell the batch in which an image was: it must not depend on the moment."""

    def detect(self, images, tags) -> list[Boxes]:
        shades = np.float32(sum(int(image[0, 0, 0]) for image in images) % 997 / 1000)
        return [
            replace(boxes, scores=boxes.scores * np.float32(0.5) + shades / 2)
            for boxes in super().detect(images, tags)
        ]


def build(seconds: Seconds) -> Chain:
    tag, _, suppress, segment = fakes.build_all(seconds).stages
    detect = detect_stage(Company(), group_by_size=True, **fakes.options(seconds))
    return Chain([tag, detect, suppress, segment])


@pytest.fixture(scope="module")
def images(tmp_path_factory: pytest.TempPathFactory) -> Path:
    folder = tmp_path_factory.mktemp("images")
    fakes.write_images(folder, 45)
    return folder


def begin(images: Path, output: Path) -> Ledger:
    return open_or_resume(
        str(output), list_source(str(images)), {"chunk_size": 8}, rows_per_shard=16, chunk_size=8
    )


def run(images: Path, output: Path, in_flight: int, kill_after: int | None = None) -> None:
    """Chunks in a random order through `in_flight` lanes; ends without a flush after some."""
    ledger = begin(images, output)
    rows = list(list_source(str(images)))
    chunks = [chunk for _, chunks in ledger.pending() for chunk in chunks]
    random.Random(kill_after).shuffle(chunks)
    lanes = Lanes(open_lanes(build, in_flight, lambda seconds: lambda *work: None))

    def annotate(chunk: int):
        samples = read_samples(rows[8 * chunk : 8 * chunk + 8])
        with lanes.take() as use:
            return chunk, records_to_table([to_record(s) for s in use.lane.stage(samples)])

    with ThreadPoolExecutor(in_flight) as threads:
        for count, (chunk, table) in enumerate(threads.map(annotate, chunks)):
            if count == kill_after:
                return
            ledger.commit(chunk, table)
    ledger.flush()
    ledger.finish({})


@pytest.fixture(scope="module")
def reference(images: Path, tmp_path_factory: pytest.TempPathFactory) -> dict[str, str]:
    output = tmp_path_factory.mktemp("reference")
    run(images, output, in_flight=1)
    return digests(output)


@pytest.mark.parametrize("kill_after", range(NUM_CHUNKS))
def test_killed_at_any_chunk_and_begun_again(
    images: Path, tmp_path: Path, reference: dict[str, str], kill_after: int
) -> None:
    run(images, tmp_path, in_flight=2, kill_after=kill_after)
    run(images, tmp_path, in_flight=2)
    assert digests(tmp_path) == reference
    assert len(reference) == 5


def test_the_company_of_an_image_shows_in_its_record(images: Path) -> None:
    """Else the test above could not fail."""
    samples = read_samples(list(list_source(str(images)))[24:40])
    together = build({})([replace(sample) for sample in samples])
    apart = [*build({})(samples[:8]), *build({})(samples[8:])]
    assert [to_record(s) for s in together] != [to_record(s) for s in apart]


EARLIER = replace(
    paper(),
    chunk_size=32,
    max_chunk_bytes=None,
    detect=replace(paper().detect, group_by_size=False),
)
MODELS = {"tag": "sum-1", "detect": "sum-2", "segment": "sum-3"}


def begun_by_an_earlier_version(output: Path, config: AnnotateConfig = EARLIER) -> None:
    values = identity(config, MODELS)
    del values["max_chunk_bytes"], values["detect"]["group_by_size"]
    manifest = {"format": "pad", "schema_version": 1, "state": "running", "identity": values}
    write_manifest(str(output), manifest)


def test_a_run_of_an_earlier_version_keeps_its_chunks_and_batches(tmp_path: Path, caplog) -> None:
    begun_by_an_earlier_version(tmp_path)
    with caplog.at_level("INFO", "pad_pipeline"):
        assert keep_chunks_of_earlier_version(str(tmp_path), paper()) == EARLIER
    assert "it goes on with chunks of 32 images and batches in their order" in caplog.text
    caplog.clear()
    assert keep_chunks_of_earlier_version(str(tmp_path), EARLIER) == EARLIER
    assert not caplog.text
    assert keep_chunks_of_earlier_version(str(tmp_path / "new"), paper()) == paper()


def test_a_run_of_an_earlier_version_goes_on_only_with_its_other_settings(
    images: Path, tmp_path: Path
) -> None:
    def open_as(config: AnnotateConfig) -> Ledger:
        return open_or_resume(
            str(tmp_path),
            list_source(str(images)),
            identity(config, MODELS),
            rows_per_shard=2048,
            chunk_size=config.chunk_size,
        )

    ledger = open_as(EARLIER)
    samples = build({})(read_samples(list(list_source(str(images)))[:32]))
    ledger.commit(0, records_to_table([to_record(sample) for sample in samples]))
    ledger.flush()
    manifest = ledger.manifest
    del manifest["identity"]["max_chunk_bytes"], manifest["identity"]["detect"]["group_by_size"]
    write_manifest(str(tmp_path), manifest)
    assert open_as(keep_chunks_of_earlier_version(str(tmp_path), paper())).num_finished == 32
    other = replace(paper(), detect=DetectConfig(model="b", batch_size=16, box_threshold=0.5))
    with pytest.raises(UserError, match=r"detect\.box_threshold was 0\.25 and is 0\.5"):
        open_as(keep_chunks_of_earlier_version(str(tmp_path), other))
    with pytest.raises(UserError, match="chunk_size was 32 and is 128"):
        open_as(paper())
