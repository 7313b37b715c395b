"""A folder with everything that calls of the command line can be given, good and bad."""

from __future__ import annotations

import json
import shutil
from collections.abc import Callable
from pathlib import Path

from pad_pipeline import storage
from tests import fakes
from tests.dataset import example

NUM_IMAGES = 5
RAM = Path(__file__).parents[1] / "golden/ram_tiny"


def make(place: Path) -> None:
    """Fill `place`: images, sources, checkpoints and data sets, sound and damaged."""
    fakes.write_images(place / "images", NUM_IMAGES)
    (place / "empty").mkdir()
    (place / "texts").mkdir()
    (place / "texts/readme.txt").write_text("no image")
    (place / "file").write_text("a file")
    (place / "page.html").write_text("<html></html>")
    (place / "broken.json").write_text('[{"id": 1, ')
    (place / "broken.parquet").write_bytes(b"PAR1 but not really")
    (place / "broken.zip").write_bytes(b"PK\x03\x04 but not really")
    twice = [{"image": "000.png"}] * 2
    (place / "twice.json").write_text(json.dumps(twice))
    (place / "junk.pth").write_bytes(b"junk\n")
    shutil.copy(RAM / "checkpoint.safetensors", place / "ram.safetensors")
    (place / "empty_key").write_text("\n")
    (place / "three_tags.txt").write_text("cat\ndog\nsun hat\n")
    _make_datasets(place)


def _make_datasets(place: Path) -> None:
    records = example.example_records()
    sound = place / "sound"
    example.write_dataset(sound, records)
    example.write_images(place / "photos", records)
    for name in ("damaged", "incomplete", "altered", "unreadable"):
        shutil.copytree(sound, place / name)
    shard = place / "damaged/pad-00001.parquet"
    shard.write_bytes(shard.read_bytes()[:-100])
    (place / "incomplete/pad-00001.parquet").unlink()
    shutil.copy(place / "sound/pad-00000.parquet", place / "altered/pad-00001.parquet")
    (place / "unreadable/_manifest.json").write_text("{")


def files(place: Path) -> dict[str, bytes]:
    """The content of every file, by its path below `place`."""
    return {
        path.relative_to(place).as_posix(): path.read_bytes()
        for path in place.rglob("*")
        if path.is_file()
    }


def failing(code: int, after: int = 0) -> Callable[[Path, bytes], None]:
    """A stand-in for the writing of a file that fails from some call on."""
    write, calls = storage.atomic.write_local, iter(range(10**6))

    def fail(path: Path, data: bytes) -> None:
        if next(calls) >= after:
            raise OSError(code, "as the kernel says", str(path))
        write(path, data)

    return fail
