"""Runs on Ray: layouts, continuation, bad images, what ends a run."""

from __future__ import annotations

import ctypes
import hashlib
import json
import os
import shutil
import signal
import time
from dataclasses import replace
from functools import partial
from pathlib import Path
from typing import Any

import pyarrow.parquet as pq
import pytest

from pad_pipeline.annotate import stream
from pad_pipeline.annotate.ledger import Ledger
from pad_pipeline.annotate.run import annotate
from pad_pipeline.engine import ray_backpressure
from pad_pipeline.engine.chain import Chain
from pad_pipeline.engine.config import STAGE_NAMES
from pad_pipeline.engine.plan import StageSpec
from pad_pipeline.engine.ray_backpressure import MAX_WAITING
from pad_pipeline.engine.stages import Decode, Seconds, Stage, tag_stage
from pad_pipeline.errors import UserError
from pad_pipeline.images import ImageLimits
from pad_pipeline.records import PadRecord, table_to_records
from tests import fakes

pytestmark = [pytest.mark.ray, pytest.mark.usefixtures("local_ray")]


def shards(output: Path) -> dict[str, str]:
    return {p.name: hashlib.sha256(p.read_bytes()).hexdigest() for p in output.glob("*.parquet")}


def read(output: Path) -> list[PadRecord]:
    return table_to_records(pq.read_table(output))


def run(images: Path, output: Path, stages=None, **changes):
    return annotate(
        str(images), str(output), fakes.config(**changes), stages=stages or fakes.fused()
    )


@pytest.fixture(scope="module")
def images(tmp_path_factory: pytest.TempPathFactory) -> Path:
    folder = tmp_path_factory.mktemp("images")
    fakes.write_images(folder, 21)
    return folder


@pytest.fixture(scope="module")
def reference(images: Path, tmp_path_factory: pytest.TempPathFactory) -> Path:
    output = tmp_path_factory.mktemp("reference") / "out"
    run(images, output)
    return output


def test_every_image_has_one_row_in_order(images: Path, reference: Path) -> None:
    records = read(reference)
    assert [record.image_id for record in records] == sorted(p.name for p in images.iterdir())
    assert {record.status for record in records} == {"ok", "empty"}
    assert sorted(shards(reference)) == [f"pad-{k:05d}.parquet" for k in range(3)]
    manifest = json.loads((reference / "_manifest.json").read_text())
    assert manifest["state"] == "finished"
    assert {s["name"]: s["sha256"] for s in manifest["shards"]} == shards(reference)
    assert not (reference / "_run").exists()


def test_pools_write_the_same_bytes_as_fused(images: Path, reference: Path, tmp_path: Path) -> None:
    stages = [replace(spec, in_flight=2) for spec in fakes.pools()]
    report = run(images, tmp_path / "out", stages)
    assert shards(tmp_path / "out") == shards(reference)
    assert set(report.seconds_by_stage) == {"decode", "tag", "detect", "suppress", "segment"}
    assert (report.num_images, report.images_this_run) == (21, 21)
    assert report.num_ok + report.num_empty + report.num_failed == 21


def test_in_process_the_stages_say_the_same(images: Path, reference: Path) -> None:
    from pad_pipeline.annotate.annotator import to_sample
    from pad_pipeline.engine.sample import to_record

    samples = [to_sample(i, p.read_bytes()) for i, p in enumerate(sorted(images.iterdir()))]
    chain = fakes.build_all({})
    here = [
        to_record(sample)
        for start in range(0, 21, 4)
        for sample in chain(samples[start : start + 4])
    ]
    for ours, theirs in zip(here, read(reference), strict=True):
        assert (ours.tags, ours.labels, ours.status) == (theirs.tags, theirs.labels, theirs.status)


class DieAt:
    """Ends the driver's loop after some chunks, as a kill of the driver does."""

    def __init__(self, after: int) -> None:
        self.after = after

    def __call__(self, ledger, specs, **options):
        for count, item in enumerate(STREAM(ledger, specs, **options)):
            if count == self.after:
                raise KeyboardInterrupt
            yield item


STREAM = stream.stream


@pytest.mark.parametrize("layout", [fakes.fused, fakes.pools])
def test_an_interrupted_run_goes_on_without_opening_finished_images(
    images: Path, reference: Path, tmp_path: Path, monkeypatch, layout
) -> None:
    source = tmp_path / "images"
    fakes.write_images(source, 21)
    output = tmp_path / "out"
    monkeypatch.setattr(stream, "stream", DieAt(3))
    with pytest.raises(KeyboardInterrupt):
        run(source, output, layout())
    monkeypatch.setattr(stream, "stream", STREAM)
    finished = _finished_ids(output)
    assert len(finished) >= 12
    for name in finished:  # same name and size, unreadable content: opening one would show
        (source / name).write_bytes(bytes((source / name).stat().st_size))
    report = run(source, output, layout())
    assert report.images_this_run == 21 - len(finished)
    assert report.num_failed == 0
    ours, theirs = pq.read_table(output), pq.read_table(reference)
    for column in ("image_id", "width", "height", "status", "tags", "labels"):
        assert ours[column].equals(theirs[column])


def _finished_ids(output: Path) -> list[str]:
    files = [*output.glob("*.parquet"), *output.glob("_run/progress/*/*.parquet")]
    return [name for file in files for name in pq.read_table(file)["image_id"].to_pylist()]


def test_a_finished_data_set_is_left_as_it_is(images: Path, reference: Path) -> None:
    before = {path: path.stat().st_mtime_ns for path in reference.iterdir()}
    report = run(images, reference, fakes.pools(), layout="pools")
    assert report.images_this_run == 0
    assert report.num_images == 21
    assert {path: path.stat().st_mtime_ns for path in reference.iterdir()} == before


def test_a_summary_that_a_kill_prevented_is_made_up_for(images: Path, tmp_path: Path) -> None:
    run(images, tmp_path / "out")
    (tmp_path / "out" / "_summary.json").unlink()
    assert run(images, tmp_path / "out").images_this_run == 0
    assert json.loads((tmp_path / "out" / "_summary.json").read_text())["num_images"] == 21


def test_another_config_on_the_same_output_is_refused(images: Path, reference: Path) -> None:
    with pytest.raises(UserError, match="begun with another config: chunk_size was 4 and is 2"):
        run(images, reference, chunk_size=2)


def test_bad_images_become_failed_rows(tmp_path: Path) -> None:
    source = tmp_path / "images"
    fakes.write_images(source, 9)
    (source / "003.png").write_bytes(b"")
    (source / "004.png").write_bytes(b"<!DOCTYPE html><html><body>404</body></html>")
    data = (source / "005.png").read_bytes()
    (source / "005.png").write_bytes(data[: len(data) // 2])
    report = run(source, tmp_path / "out", fakes.pools(), max_failed_share=0.5)
    assert (report.num_images, report.num_failed) == (9, 3)
    failed = {r.image_id: r.error for r in read(tmp_path / "out") if r.status == "failed"}
    assert set(failed) == {"003.png", "004.png", "005.png"}
    assert all(error.stage == "decode" for error in failed.values())
    assert sum(report.failures.values()) == 3


def test_too_many_failures_end_with_an_error_and_a_complete_data_set(tmp_path: Path) -> None:
    source = tmp_path / "images"
    fakes.write_images(source, 6)
    (source / "001.png").write_bytes(b"junk")
    with pytest.raises(UserError, match=r"1 of 6 images failed, 16\.7% where .* allows 5\.0%"):
        run(source, tmp_path / "out")
    assert len(read(tmp_path / "out")) == 6
    assert run(source, tmp_path / "out", max_failed_share=0.2).num_failed == 1


def refuse(seconds: Seconds) -> Stage:
    raise UserError("no checkpoint at models/ram; convert one first")


def test_a_stage_that_cannot_be_built_ends_the_run_with_its_reason(
    images: Path, tmp_path: Path
) -> None:
    spec = StageSpec(name="tag", make=refuse, pool=fakes.POOL, keep_bytes=False)
    with pytest.raises(UserError, match="no checkpoint at models/ram; convert one first"):
        run(images, tmp_path / "out", [spec])


class Deadly:
    """A stage whose process dies over some images in one of the ways in which processes die."""

    def __init__(self, seconds: Seconds, kills: dict[str, str]) -> None:
        self.chain = fakes.build_all(seconds)
        self.kills = kills

    def twin(self, seconds: Seconds) -> Deadly:
        return Deadly(seconds, self.kills)

    def __call__(self, samples):
        for sample in samples:
            way = self.kills.get(sample.image_id) if sample.error is None else None
            if way == "crash":
                ctypes.string_at(0)  # a segmentation fault
            elif way == "hang":
                time.sleep(3600)
        return self.chain(samples)


def test_images_that_kill_their_worker_are_quarantined_and_the_rest_goes_on(
    images: Path, tmp_path: Path, reference: Path, caplog
) -> None:
    """Two chunks are in flight: it is never the other chunk's images that are blamed."""
    kills = {"009.png": "crash", "010.png": "hang"}
    make = partial(Deadly, kills=kills)
    spec = StageSpec(name="annotate", make=make, pool=fakes.POOL, keep_bytes=False, in_flight=2)
    report = run(images, tmp_path / "out", [spec], max_failed_share=0.5, hang_after_s=8.0)
    records = {record.image_id: record for record in read(tmp_path / "out")}
    for whole in read(reference):
        ours = records.pop(whole.image_id)
        if whole.image_id in kills:
            assert ours.status == "failed"
            assert ours.error is not None
            assert ours.error.type == "Quarantined"
            reasons = {"crash": "it killed 2 workers alone", "hang": "no end after 8 s"}
            assert reasons[kills[whole.image_id]] in ours.error.message
            assert f"quarantined {whole.image_id}: {ours.error.message}" in caplog.text
        else:
            assert ours == whole
    assert not records
    assert report.failures == {"annotate: Quarantined": 2}


def die(seconds: Seconds) -> Stage:
    os.kill(os.getpid(), signal.SIGKILL)
    raise AssertionError


class DeadlyForAll:
    """A stage whose process dies over every image."""

    def __init__(self, seconds: Seconds) -> None: ...

    def __call__(self, samples):
        os.kill(os.getpid(), signal.SIGKILL)


@pytest.mark.parametrize(
    ("make", "reason"),
    [
        (die, "its worker died 3 times while it loaded the model"),
        # Two workers may each set one more aside at the same moment.
        (DeadlyForAll, "its worker died over each of [2-9] images in a row"),
    ],
)
def test_a_stage_that_always_dies_ends_the_run_with_its_reason(
    tmp_path: Path, make, reason: str, monkeypatch
) -> None:
    monkeypatch.setattr("pad_pipeline.engine.crash_tracker.STAGE_AT_FAULT_AFTER", 2)
    spec = StageSpec(name="tag", make=make, pool=fakes.POOL, keep_bytes=False)
    fakes.write_images(tmp_path / "images", 4)
    with pytest.raises(UserError, match=reason):
        run(tmp_path / "images", tmp_path / "out", [spec], chunk_size=2)
    assert shards(tmp_path / "out") == {}


def test_a_worker_that_dies_once_is_replaced(images: Path, tmp_path: Path, reference: Path) -> None:
    make = partial(DeadlyOnce, marker=str(tmp_path / "marker"))
    spec = StageSpec(name="annotate", make=make, pool=fakes.POOL, keep_bytes=False)
    run(images, tmp_path / "out", [spec])
    assert (tmp_path / "marker").exists()
    assert shards(tmp_path / "out") == shards(reference)


class DeadlyOnce:
    """A stage whose process dies once."""

    def __init__(self, seconds: Seconds, marker: str) -> None:
        self.chain = fakes.build_all(seconds)
        self.marker = Path(marker)

    def __call__(self, samples):
        if not self.marker.exists():
            self.marker.touch()
            os.kill(os.getpid(), signal.SIGKILL)
        return self.chain(samples)


class Slow:
    """A stage that takes its time."""

    def __init__(self, seconds: Seconds) -> None:
        self.chain = fakes.build_all(seconds)

    def __call__(self, samples):
        if not any(sample.error for sample in samples):
            time.sleep(0.1)
        return self.chain(samples)


def test_reading_does_not_run_far_ahead_of_a_slow_stage(tmp_path: Path, monkeypatch) -> None:
    source = tmp_path / "images"
    fakes.write_images(source, 600)

    def stream_and_remove_images(ledger, specs, **options):
        for count, item in enumerate(STREAM(ledger, specs, **options)):
            if count == 40:
                shutil.rmtree(source)
            yield item

    monkeypatch.setattr(stream, "stream", stream_and_remove_images)
    spec = StageSpec(name="annotate", make=Slow, pool=fakes.POOL, keep_bytes=False)
    changes = {"chunk_size": 1, "rows_per_shard": 100, "max_failed_share": 1.0}
    report = run(source, tmp_path / "out", [spec], **changes)
    # what was read by then was used; the rest was not there any more
    assert 40 <= report.num_images - report.num_failed <= 40 + 4 * MAX_WAITING
    assert {r.error.stage for r in read(tmp_path / "out") if r.error} == {"read"}


def test_a_long_run_does_not_keep_statistics_of_every_block(tmp_path: Path, monkeypatch) -> None:
    fakes.write_images(tmp_path / "images", 60)
    kept: list[int] = []
    forget = ray_backpressure._trim_statistics

    def watched(op: Any) -> None:
        forget(op)
        kept.append(len(getattr(op, "_output_blocks_stats", ())))

    monkeypatch.setattr(ray_backpressure, "KEPT_STATISTICS", 4)
    monkeypatch.setattr(ray_backpressure, "_trim_statistics", watched)
    run(tmp_path / "images", tmp_path / "out", chunk_size=1, rows_per_shard=60)
    assert len(read(tmp_path / "out")) == 60
    assert 4 < max(kept) <= 8


def test_relative_paths_work_on_workers_with_another_folder(
    images: Path, reference: Path, tmp_path: Path, monkeypatch
) -> None:
    (tmp_path / "images").symlink_to(images)
    monkeypatch.chdir(tmp_path)
    run(Path("images"), Path("out"))
    assert len(read(tmp_path / "out")) == 21


def test_what_ends_a_run_is_told_in_its_own_words(
    images: Path, tmp_path: Path, monkeypatch
) -> None:
    gone = property(lambda ledger: str(tmp_path / "gone.parquet"))
    monkeypatch.setattr(Ledger, "images_url", gone)
    with pytest.raises(UserError, match=r"a worker failed: cannot read .*gone\.parquet"):
        run(images, tmp_path / "out")


def run_out_of_memory(seconds: Seconds) -> Stage:
    tag = tag_stage(
        fakes.FakeTagger(most_at_once=1),
        batch_size=4,
        decode=Decode(ImageLimits(), seconds),
        seconds=seconds,
    )
    return Chain([tag, *(fakes.build(name, seconds) for name in STAGE_NAMES if name != "tag")])


def test_what_a_worker_logs_arrives(images: Path, tmp_path: Path, caplog) -> None:
    [spec] = fakes.fused()
    with caplog.at_level("WARNING", "pad_pipeline"):
        run(images, tmp_path / "out", [replace(spec, make=run_out_of_memory)])
    found = [text for text in caplog.messages if "out of memory with a batch of" in text]
    assert found, caplog.messages
    assert "more like it" in found[-1]
    assert len(found) <= 3
