"""Which runs are continued, and which outputs are refused."""

from __future__ import annotations

import random
from dataclasses import replace
from pathlib import Path

import pyarrow.parquet as pq
import pytest

from pad_pipeline.annotate.run_files import images_url, read_images
from pad_pipeline.dataset.manifest import write_manifest
from pad_pipeline.dataset.reader import open_dataset
from pad_pipeline.dataset.validate import validate
from pad_pipeline.errors import UserError
from pad_pipeline.given import GivenRegion
from pad_pipeline.records import SCHEMAS
from pad_pipeline.sources import ManifestRow
from tests.annotate.runs import ROWS, begin, complete, records


def test_finished_chunks_are_not_pending_again(tmp_path: Path) -> None:
    ledger = begin(tmp_path)
    ledger.commit(1, records(ledger, 1))
    ledger.commit(6, records(ledger, 6))
    ledger.flush()
    again = begin(tmp_path)
    assert dict(again.pending()) == {0: [0, 2, 3], 1: [4, 5, 7], 2: [8, 9, 10]}
    assert again.num_finished == 4


def test_another_config_is_refused_by_name(tmp_path: Path) -> None:
    ledger = begin(tmp_path, identity={"detect": {"box_threshold": 0.25}})
    ledger.commit(0, records(ledger, 0))
    with pytest.raises(UserError, match=r"detect\.box_threshold was 0\.25 and is 0\.3"):
        begin(tmp_path, identity={"detect": {"box_threshold": 0.3}})


def test_a_run_that_finished_nothing_may_begin_anew_with_another_config(tmp_path: Path) -> None:
    begin(tmp_path, identity={"device": "cuda"})
    ledger = begin(tmp_path, ROWS[:-1], identity={"device": "cpu"})
    assert ledger.layout.num_images == 20
    assert ledger.manifest["identity"] == {"device": "cpu"}


def test_another_source_is_refused(tmp_path: Path) -> None:
    ledger = begin(tmp_path)
    ledger.commit(0, records(ledger, 0))
    with pytest.raises(UserError, match=r"had 21 images and has 20: 1 gone \(020\.png\)"):
        begin(tmp_path, ROWS[:-1])


def moved(rows: list[ManifestRow]) -> list[ManifestRow]:
    return [replace(row, uri=f"/elsewhere/{row.image_id}") for row in rows]


def test_images_may_have_moved(tmp_path: Path) -> None:
    """Another mount, another machine: what is left is read where it is now."""
    ledger = begin(tmp_path)
    ledger.commit(0, records(ledger, 0))
    ledger.flush()
    again = begin(tmp_path, moved(ROWS))
    assert again.num_finished == 2
    uris = read_images(images_url(str(tmp_path)), 0)["uri"].to_pylist()
    assert uris[0] == f"/elsewhere/{ROWS[0].image_id}"
    assert begin(tmp_path, moved(ROWS)).manifest == again.manifest


def resized(*numbers: int) -> list[ManifestRow]:
    return [replace(row, size=100 + (i in numbers)) for i, row in enumerate(ROWS)]


def test_finished_images_whose_files_changed_are_named_and_kept(tmp_path: Path, caplog) -> None:
    """An image that was downloaded again: a run of days does not end for it."""
    ledger = begin(tmp_path, resized())
    ledger.commit(1, records(ledger, 1))
    ledger.commit(2, records(ledger, 2))
    ledger.flush()
    again = begin(tmp_path, moved(resized(3, 9)))
    assert again.num_finished == 4
    [line] = [one for one in caplog.messages if "changed after" in one]
    assert line.startswith("the files of 1 image changed after they were annotated (003.png);")
    assert read_images(images_url(str(tmp_path)), 1)["size"].to_pylist()[1] == 101  # not done yet
    caplog.clear()
    begin(tmp_path, moved(resized(3, 9, 10, 11)))  # none of which is finished
    assert caplog.messages == []
    complete(begin(tmp_path, resized(3, 9)), random.Random(0))
    assert begin(tmp_path, resized(1)).finished
    assert "files of the source have other sizes than when" in caplog.text


def test_other_boxes_than_before_are_refused(tmp_path: Path) -> None:
    def given(tag: str) -> list[ManifestRow]:
        return [replace(row, regions=(GivenRegion(tag, (0, 0, 1, 1)),)) for row in ROWS]

    ledger = begin(tmp_path, given("cat"))
    ledger.commit(0, records(ledger, 0))
    ledger.flush()
    assert begin(tmp_path, given("cat")).num_finished == 2
    with pytest.raises(UserError, match="other boxes, tags or captions are given with the images"):
        begin(tmp_path, given("dog"))


def test_a_finished_data_set_does_not_care_where_its_images_are(tmp_path: Path) -> None:
    ledger = begin(tmp_path)
    for chunk in range(11):
        ledger.commit(chunk, records(ledger, chunk))
    ledger.finish({})
    assert begin(tmp_path, moved(ROWS)).finished
    with pytest.raises(UserError, match="1 added"):
        begin(tmp_path, [*ROWS, replace(ROWS[0], image_id="new.png")])


def test_a_run_of_the_first_schema_is_finished_in_it(tmp_path: Path) -> None:
    """A data set has shards of one kind, whichever release wrote the last of them."""
    ledger = begin(tmp_path)
    write_manifest(str(tmp_path), ledger.manifest | {"schema_version": 1})
    ledger.manifest["schema_version"] = 1
    ledger.commit(0, records(ledger, 0))
    ledger.flush()
    complete(begin(tmp_path), random.Random(0))
    for shard in tmp_path.glob("*.parquet"):
        assert pq.read_schema(shard).equals(SCHEMAS[1], check_metadata=True)
    assert "schema" not in validate(str(tmp_path)).num_problems
    assert open_dataset(str(tmp_path)).manifest["schema_version"] == 1


def test_a_run_of_an_earlier_release_goes_on(tmp_path: Path) -> None:
    """Its one checksum was that of ids, places and captions."""
    ledger = begin(tmp_path)
    ledger.commit(0, records(ledger, 0))
    ledger.flush()
    manifest = dict(ledger.manifest)
    manifest["images_digest"] = manifest.pop("places_digest")
    write_manifest(str(tmp_path), manifest)
    assert begin(tmp_path).num_finished == 2
    with pytest.raises(UserError, match="the source has changed"):
        begin(tmp_path, moved(ROWS))


def test_foreign_parquet_files_are_not_mixed_with_ours(tmp_path: Path) -> None:
    pq.write_table(records(begin(tmp_path / "a"), 0), tmp_path / "other.parquet")
    with pytest.raises(UserError, match=r"already holds Parquet files \(other.parquet\)"):
        begin(tmp_path)


def test_a_damaged_shard_is_named(tmp_path: Path) -> None:
    ledger = begin(tmp_path)
    for chunk in range(4):
        ledger.commit(chunk, records(ledger, chunk))
    (tmp_path / "pad-00000.parquet").write_bytes(b"PAR1 but not really")
    with pytest.raises(UserError, match=r"pad-00000\.parquet cannot be read .* delete it"):
        begin(tmp_path)


def test_a_manifest_of_another_format_is_refused(tmp_path: Path) -> None:
    (tmp_path / "_manifest.json").write_text('{"format": "coco"}')
    with pytest.raises(UserError, match="not the manifest of a PAD data set"):
        begin(tmp_path)
    (tmp_path / "_manifest.json").write_text("{")
    with pytest.raises(UserError, match="is not valid JSON"):
        begin(tmp_path)
