"""A run from every kind of source on Ray, with fake models: same images, same records."""

from __future__ import annotations

import json
from collections.abc import Callable
from pathlib import Path

import pyarrow as pa
import pyarrow.parquet as pq
import pytest

from pad_pipeline.annotate.run import annotate
from pad_pipeline.records import PadRecord, table_to_records
from tests import fakes
from tests.sources import samples

pytestmark = [pytest.mark.ray, pytest.mark.usefixtures("local_ray")]

NUM_IMAGES = 10

Files = dict[str, bytes]


def caption(name: str) -> str:
    return f"a square called {name}"


def llava_with_zip(place: Path, files: Files) -> Path:
    (place / "images.zip").write_bytes(samples.zipped(files))
    entries = [samples.llava(name, caption(name)) for name in files]
    (place / "chat.json").write_text(json.dumps(entries))
    return place / "chat.json"


def webdataset(place: Path, files: Files) -> Path:
    half = len(files) // 2
    for number, names in enumerate((list(files)[:half], list(files)[half:])):
        members = [(name, files[name]) for name in names]
        members += [(name.replace(".png", ".txt"), caption(name).encode()) for name in names]
        (place / f"{number:05d}.tar").write_bytes(samples.tarred(sorted(members)))
    return place / "{00000..00001}.tar"


def parquet(place: Path, files: Files) -> Path:
    columns = {
        "id": list(files),
        "image": [{"bytes": data, "path": None} for data in files.values()],
        "caption": [caption(name) for name in files],
    }
    pq.write_table(pa.table(columns), place / "images.parquet", row_group_size=4)
    return place / "images.parquet"


def jsonl(place: Path, files: Files) -> Path:
    for name, data in files.items():
        (place / name).write_bytes(data)
    lines = [json.dumps({"path": name, "caption": caption(name)}) for name in files]
    (place / "images.jsonl").write_text("\n".join(lines) + "\n")
    return place / "images.jsonl"


SOURCES: dict[str, tuple[Callable[[Path, Files], Path], Callable[[str], str]]] = {
    "LLaVA JSON and images.zip": (llava_with_zip, lambda name: name),
    "WebDataset tars": (webdataset, lambda name: f"{int(name[:3]) // 5:05d}/{name}"),
    "Parquet with bytes": (parquet, lambda name: name),
    "JSONL with paths": (jsonl, lambda name: name),
}
"""How each is made, and the id that an image has in it."""


@pytest.fixture(scope="module")
def files(tmp_path_factory: pytest.TempPathFactory) -> Files:
    folder = tmp_path_factory.mktemp("images")
    fakes.write_images(folder, NUM_IMAGES)
    return {path.name: path.read_bytes() for path in sorted(folder.iterdir())}


def run(source: Path, output: Path, captions: str | None = None) -> list[PadRecord]:
    annotate(str(source), str(output), fakes.config(), stages=fakes.fused(), captions=captions)
    return table_to_records(pq.read_table(output))


@pytest.fixture(scope="module")
def reference(
    files: Files, local_ray: None, tmp_path_factory: pytest.TempPathFactory
) -> list[PadRecord]:
    """The records of a folder whose captions stand in a file."""
    place = tmp_path_factory.mktemp("folder")
    for name, data in files.items():
        (place / "images" / name).parent.mkdir(exist_ok=True)
        (place / "images" / name).write_bytes(data)
    entries = [samples.llava(name, caption(name)) for name in files]
    (place / "captions.json").write_text(json.dumps(entries))
    return run(place / "images", place / "out", captions=str(place / "captions.json"))


def test_a_folder(reference: list[PadRecord], files: Files) -> None:
    assert [record.image_id for record in reference] == list(files)
    assert [record.caption for record in reference] == [caption(name) for name in files]
    assert {record.status for record in reference} == {"ok", "empty"}


@pytest.mark.parametrize("kind", SOURCES)
def test_another_source_with_the_same_images(
    files: Files, reference: list[PadRecord], tmp_path: Path, kind: str
) -> None:
    make, id_of = SOURCES[kind]
    (tmp_path / "source").mkdir()
    records = run(make(tmp_path / "source", files), tmp_path / "out")
    assert [record.image_id for record in records] == [id_of(name) for name in files]
    for ours, theirs in zip(records, reference, strict=True):
        assert (ours.caption, ours.status, ours.width, ours.height) == (
            *(theirs.caption, theirs.status, theirs.width, theirs.height),
        )
        assert (ours.tags, ours.labels) == (theirs.tags, theirs.labels)
