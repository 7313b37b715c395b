"""`retry-failed`: only what failed runs again, and the data set is as if it had never failed."""

from __future__ import annotations

import dataclasses
import json
import shutil
from collections.abc import Iterator
from pathlib import Path

import pytest

from pad_pipeline.annotate import retry as retry_module
from pad_pipeline.annotate.retry import retry_failed
from pad_pipeline.annotate.run import annotate
from pad_pipeline.dataset.validate import validate
from pad_pipeline.engine.config import demo
from pad_pipeline.engine.identity import from_manifest, identity
from pad_pipeline.errors import UserError
from pad_pipeline.storage import atomic
from tests import fakes

pytestmark = [pytest.mark.ray, pytest.mark.usefixtures("local_ray")]

BROKEN = ("003.png", "011.png")


def run(images: Path, output: Path, **changes):
    return annotate(str(images), str(output), fakes.config(**changes), stages=fakes.fused())


def shards(output: Path) -> dict[str, bytes]:
    return {path.name: path.read_bytes() for path in output.glob("*.parquet")}


@pytest.fixture(scope="module")
def original(local_ray: None, tmp_path_factory: pytest.TempPathFactory) -> Path:
    """What `place` holds at first; its data sets name the images by their paths in `place`."""
    folder = tmp_path_factory.mktemp("retry")
    images = folder / "place" / "images"
    fakes.write_images(images, 14)
    run(images, folder / "place" / "whole")
    content = {name: (images / name).read_bytes() for name in BROKEN}
    for name in BROKEN:
        (images / name).write_bytes(b"not yet uploaded")
    report = run(images, folder / "place" / "out", max_failed_share=0.5)
    assert report.num_failed == 2
    for name, data in content.items():
        (images / name).write_bytes(data)
    return (folder / "place").rename(folder / "original")


@pytest.fixture
def place(original: Path, monkeypatch: pytest.MonkeyPatch) -> Iterator[Path]:
    """`out`, in which two of 14 images failed and can be read by now; `whole`, as it should be."""
    # the fake models have no weights to name in a manifest
    monkeypatch.setattr(retry_module, "from_manifest", lambda manifest: fakes.config())
    place = original.with_name("place")
    shutil.copytree(original, place)
    yield place
    shutil.rmtree(place)


def test_what_failed_runs_again_and_nothing_else(place: Path) -> None:
    for image in (place / "images").iterdir():
        if image.name not in BROKEN:
            image.write_bytes(b"opening this one would show")
    report = retry_failed(str(place / "out"), stages=fakes.fused())
    assert (report.num_images, report.images_this_run, report.num_failed) == (14, 2, 0)
    assert shards(place / "out") == shards(place / "whole")
    assert validate(str(place / "out")).ok
    assert {path.name for path in (place / "out").iterdir()} == {
        path.name for path in (place / "whole").iterdir()
    }
    assert json.loads((place / "out" / "_summary.json").read_text())["num_failed"] == 0
    assert retry_failed(str(place / "out"), stages=fakes.fused()).images_this_run == 0


def test_what_fails_again_stays_with_its_reason(place: Path) -> None:
    (place / "images" / BROKEN[0]).write_bytes(b"")
    (place / "images" / BROKEN[1]).unlink()
    report = retry_failed(str(place / "out"), stages=fakes.fused())
    assert (report.images_this_run, report.num_failed) == (1, 2)
    assert validate(str(place / "out")).ok


def test_a_retry_that_is_killed_while_it_merges_is_completed(place: Path, monkeypatch) -> None:
    class Killed(BaseException):
        """As kill -9 would end it."""

    real, writes = atomic.write_local, []

    def write(path: Path, data: bytes) -> None:
        writes.append(path)
        if len(writes) == 3:  # the manifest, one shard, then the end
            raise Killed
        real(path, data)

    with monkeypatch.context() as patch:
        patch.setattr(
            retry_module,
            "annotate_rows",
            _then(lambda: patch.setattr(atomic, "write_local", write)),
        )
        with pytest.raises(Killed):
            retry_failed(str(place / "out"), stages=fakes.fused())
    assert len(writes) == 3
    manifest = json.loads((place / "out" / "_manifest.json").read_text())
    assert manifest["state"] == "running"
    retry_failed(str(place / "out"), stages=fakes.fused())
    assert shards(place / "out") == shards(place / "whole")
    assert validate(str(place / "out")).ok


def _then(do):
    real = retry_module.annotate_rows

    def annotate_rows(*arguments, **options):
        result = real(*arguments, **options)
        do()
        return result

    return annotate_rows


def test_an_unfinished_data_set_is_refused(place: Path) -> None:
    path = place / "out" / "_manifest.json"
    path.write_text(json.dumps({**json.loads(path.read_text()), "state": "running"}))
    with pytest.raises(UserError, match="is not finished: rerun the original `annotate` command"):
        retry_failed(str(place / "out"), stages=fakes.fused())


def test_the_config_comes_back_from_the_manifest() -> None:
    config = dataclasses.replace(demo(), device="cpu", dtype="float32", chunk_size=8)
    sums = {"tag": "sum-1", "detect": "sum-2", "segment": "sum-3"}
    manifest = {
        "identity": json.loads(json.dumps(identity(config, sums))),
        "models": {name: {"model": "embedded", "checksum": sums[name]} for name in sums},
    }
    assert from_manifest(manifest) == config
    with pytest.raises(UserError, match="of another version"):
        from_manifest({**manifest, "identity": {**manifest["identity"], "new_field": 1}})
