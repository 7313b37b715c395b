"""`pad-pipeline annotate` without Ray: whole runs with a fake chain."""

from __future__ import annotations

import errno
import json
import os
import pickle
import re
import signal
import time
from collections.abc import Callable, Iterator
from functools import partial
from pathlib import Path

import pyarrow as pa
import pyarrow.parquet as pq
import pytest

from pad_pipeline import storage
from pad_pipeline.annotate import stream
from pad_pipeline.annotate.ledger import Ledger
from pad_pipeline.engine import ray_session
from pad_pipeline.engine.sample import to_record
from pad_pipeline.records import records_to_table
from tests import fakes
from tests.cli import place as cli_place
from tests.cli.runner import Outcome, call


def stream_here(
    ledger: Ledger, specs: object, **options: object
) -> Iterator[stream.CompletedChunk]:
    """What `on_ray.stream` yields, with the fake chain and without Ray."""
    del specs, options
    chain = fakes.build_all({})
    sizes = {name: getattr(ledger.layout, name) for name in ("rows_per_shard", "chunk_size")}
    for shard, chunks in list(ledger.pending()):
        task = pa.table({"shard": [shard], "chunks": [chunks]})
        for block in stream.read_chunks(task, images_url=ledger.images_url, **sizes):
            cargo = pickle.loads(block["payload"][0].as_buffer())
            records = records_to_table([to_record(sample) for sample in chain(cargo.content)])
            seconds = {"tag": 0.25, "segment": 0.75}
            yield stream.CompletedChunk(cargo.chunk, records, seconds, [], time.time())


def then(
    ledger: Ledger, specs: object, *, after: int, act: Callable[[], None], **options: object
) -> Iterator[stream.CompletedChunk]:
    """The same, but something happens after some chunks."""
    for count, item in enumerate(stream_here(ledger, specs)):
        if count == after:
            act()
        yield item


@pytest.fixture
def run(here: Path, tmp_path: Path, capfd, monkeypatch) -> Callable[..., Outcome]:
    """Calls `annotate` with the fake chain, two images a chunk, four a shard."""
    monkeypatch.setattr(ray_session, "start_here", lambda slots, verbose: None)
    monkeypatch.setattr(stream, "stream", stream_here)

    def run_it(*options: object, source: str | Path = "images", output: str = "out") -> Outcome:
        words = ("--preset", "demo", "--chunk-size", 2, "--rows-per-shard", 4, *options)
        return call(capfd, "annotate", source, tmp_path / output, *words)

    return run_it


def shards(output: Path) -> dict[str, bytes]:
    return {path.name: path.read_bytes() for path in output.glob("*.parquet")}


def test_a_run_ends_with_a_summary_and_a_valid_data_set(run, tmp_path: Path, capfd) -> None:
    outcome = run()
    assert outcome.code == 0, outcome.err
    assert re.search(r"images +5\s", outcome.out)
    assert re.search(r"segment +2\.2 s \(75%\)", outcome.out)
    assert outcome.out.splitlines()[-2:] == [
        f"data set: {tmp_path / 'out'}",
        "done: 5 images, 0 failed",
    ]
    assert "error" not in outcome.err
    checked = call(capfd, "validate", tmp_path / "out")
    assert (checked.code, checked.err) == (0, "")
    assert checked.out.endswith("valid\n")


def test_a_finished_data_set_is_left_as_it_is(run, tmp_path: Path) -> None:
    run()
    before = cli_place.files(tmp_path)
    outcome = run()
    assert (outcome.code, "nothing to do" in outcome.err) == (0, True)
    assert cli_place.files(tmp_path) == before


def test_another_config_on_a_data_set_is_refused(run, tmp_path: Path) -> None:
    run()
    before = cli_place.files(tmp_path)
    sentence = run("--detect.box-threshold", 0.5).sentence
    assert "was begun with another config: detect.box_threshold was 0.2 and is 0.5" in sentence
    assert cli_place.files(tmp_path) == before


def test_another_layout_on_a_begun_data_set_is_fine(run) -> None:
    run()
    assert run("--layout", "pools", "--max-failed-share", 0.5).code == 0


def interrupt() -> None:
    raise KeyboardInterrupt


def terminate() -> None:
    os.kill(os.getpid(), signal.SIGTERM)


@pytest.mark.parametrize("act", [interrupt, terminate])
def test_an_interrupted_run_says_so_and_goes_on(run, tmp_path: Path, monkeypatch, act) -> None:
    run(output="whole")
    with monkeypatch.context() as during:
        during.setattr(stream, "stream", partial(then, after=2, act=act))
        outcome = run()
    assert outcome.code == 130
    words = f"annotate images {tmp_path / 'out'} --preset demo --chunk-size 2 --rows-per-shard 4"
    assert outcome.err.endswith(
        "pad-pipeline: interrupted; what was finished is kept, the same command continues: "
        f"pad-pipeline {words}\n"
    )
    assert "Traceback" not in outcome.err
    assert not (tmp_path / "out/pad-00001.parquet").exists()
    outcome = run()
    assert "continuing after 4 finished images" in outcome.err
    assert re.search(r"this run +1 image ", outcome.out)
    assert shards(tmp_path / "out") == shards(tmp_path / "whole")


def test_a_full_disk_at_any_moment_is_explained_and_the_run_goes_on(
    run, tmp_path: Path, monkeypatch
) -> None:
    run(output="whole")
    for after in range(40):
        output = f"out-{after}"
        with monkeypatch.context() as during:
            during.setattr(storage.atomic, "write_local", cli_place.failing(errno.ENOSPC, after))
            outcome = run(output=output)
        if outcome.code == 0:
            break
        assert "no space is left on the device" in outcome.err.splitlines()[-1]
        assert "Traceback" not in outcome.err
        assert run(output=output).code == 0
        assert shards(tmp_path / output) == shards(tmp_path / "whole")
    assert 5 < after < 39


def test_images_that_are_not_there_do_not_count_as_failed_ones(run, tmp_path: Path) -> None:
    """A list often names images that were never downloaded: reported, and no fault of the run."""
    fakes.write_images(tmp_path / "some", 2)
    names = ["000.png", "001.png", "002.png", "003.png"]
    (tmp_path / "some/list.json").write_text(json.dumps([{"image": name} for name in names]))
    outcome = run(source=tmp_path / "some/list.json")
    assert outcome.code == 0, outcome.err
    assert re.search(r"missing +2\s", outcome.out)
    assert outcome.out.splitlines()[-1] == "done: 4 images, 2 failed"


def test_too_many_failures_end_with_an_error_and_all_rows(run, tmp_path: Path, capfd) -> None:
    fakes.write_images(tmp_path / "bad", 4)
    (tmp_path / "bad/002.png").write_bytes(b"<html>")
    outcome = run(source=tmp_path / "bad")
    assert outcome.code == 3
    assert "1 of 4 images failed, 25.0% where" in outcome.err.splitlines()[-1]
    assert "--max-failed-share" in outcome.err
    assert call(capfd, "validate", tmp_path / "out").code == 0
    outcome = run("--max-failed-share", 0.3, source=tmp_path / "bad")
    assert outcome.code == 0
    assert re.search(r"failed +1\s", outcome.out)
    assert re.search(r"decode: ImageError +1", outcome.out)


def read_ids(output: Path) -> list[str]:
    return [row for name in sorted(shards(output)) for row in ids_of(output / name)]


def ids_of(path: Path) -> list[str]:
    return pq.read_table(path, columns=["image_id"]).column("image_id").to_pylist()


def test_some_images_are_annotated_alone(run, tmp_path: Path) -> None:
    assert run(output="whole").code == 0
    names = read_ids(tmp_path / "whole")
    assert len(names) == 5
    for _ in range(2):  # again: the same images, so nothing is to be done
        outcome = run("--limit", 3, output="first")
        assert outcome.code == 0, outcome.err
    assert "nothing to do" in outcome.err
    assert read_ids(tmp_path / "first") == names[:3]
    assert run("--sample", 3, output="sample").code == 0
    sample = read_ids(tmp_path / "sample")
    assert len(sample) == 3
    assert sample == [name for name in names if name in sample]
    (tmp_path / "ids.txt").write_text(f"{names[4]}\n{names[1]}\nnowhere.png\n")
    outcome = run("--ids", tmp_path / "ids.txt", output="named")
    assert read_ids(tmp_path / "named") == [names[1], names[4]]
    assert "1 image of" in outcome.err
    assert "'nowhere.png'" in outcome.err
    manifest = json.loads((tmp_path / "named/_manifest.json").read_text())
    assert manifest["subset"]["ids"] == str(tmp_path / "ids.txt")
    assert "subset" not in json.loads((tmp_path / "whole/_manifest.json").read_text())


def test_a_subset_that_cannot_be_is_refused(run, tmp_path: Path) -> None:
    assert "choose one of --limit 2 and --sample" in run("--limit", 2, "--sample", 2).sentence
    assert "--limit" in run("--limit", 0).sentence
    (tmp_path / "ids.txt").write_text("x.png\n")
    assert "none of the images" in run("--ids", tmp_path / "ids.txt").sentence
    assert not (tmp_path / "out").exists()


def test_the_last_lines_name_the_failed_images(run, tmp_path: Path, capfd) -> None:
    source = tmp_path / "broken"
    source.mkdir()
    for number in range(7):
        (source / f"{number}.png").write_bytes(b"no image")
    good = next(Path("images").iterdir())
    (source / "good.png").write_bytes(good.read_bytes())
    outcome = run("--max-failed-share", 1, source=source)
    lines = outcome.out.splitlines()
    [line] = [line for line in lines if line.startswith("failed: ")]
    assert line.startswith("failed: 0.png, 1.png, 2.png, 3.png, 4.png and 2 more")
    assert line.endswith(f"pad-pipeline status --failed {tmp_path / 'out'}")
    listed = call(capfd, "status", "--failed", tmp_path / "out").out.splitlines()
    assert [line.partition(": ")[0] for line in listed] == [f"{number}.png" for number in range(7)]
    assert all("decode: ImageError: " in line for line in listed)
