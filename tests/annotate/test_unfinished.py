"""What reads a data set reads the finished images of an unfinished run, and says so."""

from __future__ import annotations

import json
import logging
import shutil
from pathlib import Path

import pytest

from pad_pipeline import storage
from pad_pipeline.annotate.ledger import Ledger
from pad_pipeline.annotate.resume import open_or_resume
from pad_pipeline.dataset import reader
from pad_pipeline.dataset.reader import find_record, iter_records, open_dataset
from pad_pipeline.dataset.stats import compute_stats
from pad_pipeline.errors import UserError
from pad_pipeline.export.formats import export
from pad_pipeline.records import PadRecord, records_to_table
from pad_pipeline.sources import ManifestRow
from pad_pipeline.view.index import build, scan
from pad_pipeline.view.queries import Index
from tests.cli.runner import call
from tests.dataset.example import ellipse, record, region

RECORDS = [record(number, [region("dog", ellipse(12, 10, 8, 7))]) for number in range(10)]


def commit(ledger: Ledger, *chunks: int) -> None:
    for chunk in chunks:
        ledger.commit(chunk, records_to_table(RECORDS[2 * chunk : 2 * chunk + 2]))
    ledger.flush()


@pytest.fixture
def ledger(tmp_path: Path) -> Ledger:
    """Ten images in shards of four: the first shard is whole, of the second a chunk is done."""
    rows = [ManifestRow(one.image_id, one.uri, one.caption) for one in RECORDS]
    output = str(tmp_path / "out")
    ledger = open_or_resume(output, rows, {"config": 1}, rows_per_shard=4, chunk_size=2)
    commit(ledger, 0, 3, 1)
    return ledger


def ids(records: list[PadRecord]) -> list[str]:
    return [one.image_id for one in records]


def test_every_finished_image_is_read(ledger: Ledger) -> None:
    dataset = open_dataset(ledger.output)
    assert (len(dataset.shards), len(dataset.parts), dataset.num_rows) == (1, 1, 6)
    found = list(iter_records(dataset))
    assert found == [*RECORDS[:4], *RECORDS[6:8]]
    assert ids(list(iter_records(dataset, masks=False))) == ids(found)
    assert find_record(ledger.output, RECORDS[7].image_id) == RECORDS[7]
    assert find_record(ledger.output, RECORDS[8].image_id) is None


def test_it_is_what_the_viewer_shows(
    ledger: Ledger, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("PAD_CACHE", str(tmp_path / "cache"))
    index = Index(build(scan(ledger.output)))
    try:
        shown = {row["image_id"] for row in index.rows("SELECT image_id FROM images", [])}
    finally:
        index.close()
    assert shown == set(ids(list(iter_records(open_dataset(ledger.output)))))


def test_exports_and_statistics_say_that_it_is_not_finished(
    ledger: Ledger, tmp_path: Path, caplog: pytest.LogCaptureFixture
) -> None:
    sentence = "is not finished: 6 of its 10 images are read; the same annotate command continues"
    with caplog.at_level(logging.INFO):
        report = export(ledger.output, str(tmp_path / "coco.json"), "coco")
    assert caplog.text.count(sentence) == 1
    assert (report.num_images, report.num_regions) == (6, 6)
    found = json.loads((tmp_path / "coco.json").read_text())
    assert [one["file_name"] for one in found["images"]] == [
        *ids(RECORDS[:4]),
        *ids(RECORDS[6:8]),
    ]
    caplog.clear()
    with caplog.at_level(logging.INFO):
        assert compute_stats(ledger.output).num_images == 6
    assert caplog.text.count(sentence) == 1


def test_a_run_without_a_finished_image_is_refused(tmp_path: Path, capfd) -> None:
    rows = [ManifestRow("a.png", "/a.png", None)]
    open_or_resume(str(tmp_path / "out"), rows, {}, rows_per_shard=4, chunk_size=2)
    for words in (("stats",), ("export",)):
        dest = (tmp_path / "x", "--format", "coco") if words == ("export",) else ()
        outcome = call(capfd, *words, tmp_path / "out", *dest)
        assert outcome.code == 1
        assert "is a run without a finished image yet" in outcome.sentence
    assert not (tmp_path / "x").exists()


def test_a_chunk_that_was_done_twice_is_read_once(ledger: Ledger) -> None:
    [part] = open_dataset(ledger.output).parts
    shutil.copy(part.url, Path(part.url).with_name("00000009-twice.parquet"))
    dataset = open_dataset(ledger.output)
    assert len(dataset.parts) == 2
    assert ids(list(iter_records(dataset))) == [*ids(RECORDS[:4]), *ids(RECORDS[6:8])]


def test_a_run_may_go_on_meanwhile(ledger: Ledger, monkeypatch: pytest.MonkeyPatch) -> None:
    before = open_dataset(ledger.output)
    open_shard = reader._open_shard

    def finish_first(url: str, name: str) -> reader.Shard:
        if "_run" in name and storage.exists(storage.join(url, name)):
            commit(ledger, 2)  # the part becomes a shard
        return open_shard(url, name)

    monkeypatch.setattr(reader, "_open_shard", finish_first)
    assert ids(list(iter_records(open_dataset(ledger.output)))) == ids(RECORDS[:8])
    with pytest.raises(UserError, match=r"the run went on while .* was read: run this command"):
        list(iter_records(before))
