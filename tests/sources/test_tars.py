"""WebDataset tars: samples, captions, formats, damage."""

from __future__ import annotations

import gzip
import io
import tarfile
from pathlib import Path

import pytest

from pad_pipeline import storage
from pad_pipeline.errors import UserError
from pad_pipeline.sources import read_many
from tests.sources.samples import by_id, image, listed, tarred, write


def shard(number: int) -> list[tuple[str, bytes]]:
    return [
        (f"{number}a.jpg", image(number)),
        (f"{number}a.txt", f"caption {number}a\n".encode()),
        (f"{number}b.json", b'{"caption": "caption b", "other": 1}'),
        (f"{number}b.png", image(number + 100)),
        ("sub/c.jpg", image(number + 200)),
        ("sub/c.cls", b"7"),
    ]


def expected(stem: str, number: int) -> dict[str, tuple[bytes, str | None]]:
    return {
        f"{stem}/{number}a.jpg": (image(number), f"caption {number}a"),
        f"{stem}/{number}b.png": (image(number + 100), "caption b"),
        f"{stem}/sub/c.jpg": (image(number + 200), None),
    }


@pytest.mark.parametrize(
    ("pattern", "numbers"),
    [
        ("{00000..00002}.tar", [0, 1, 2]),
        ("{00002..00001}.tar", [2, 1]),
        ("0000{2,0}.tar", [2, 0]),
        ("*.tar", [0, 1, 2]),
        ("0000[01].tar", [0, 1]),
        ("{00000,0000*}.tar", [0, 1, 2]),
        ("", [0, 1, 2]),
        ("00001.tar", [1]),
    ],
)
def test_webdataset(root: str, pattern: str, numbers: list[int]) -> None:
    shards = storage.join(root, "shards")
    write(shards, {f"{n:05d}.tar": tarred(shard(n)) for n in range(3)} | {"README.md": b"?"})
    rows = listed(storage.join(shards, pattern))
    assert by_id(rows) == {
        name: data for n in numbers for name, (data, _) in expected(f"{n:05d}", n).items()
    }
    captions = {name: text for n in numbers for name, (_, text) in expected(f"{n:05d}", n).items()}
    assert {row.image_id: row.caption for row in rows} == captions
    stems = list(dict.fromkeys(row.image_id.split("/")[0] for row in rows))
    assert stems == [f"{n:05d}" for n in numbers]
    assert rows[0].uri.startswith(f"tar://{numbers[0]}a.jpg::{shards}/")


def test_shards_of_one_name_in_several_folders(root: str) -> None:
    write(root, {f"{part}/0.tar": tarred([("x.jpg", image(1))]) for part in ("train", "test")})
    for source in (root, storage.join(root, "*/0.tar")):
        assert list(by_id(listed(source))) == ["test/0/x.jpg", "train/0/x.jpg"]


def test_images_beside_tars_win(root: str, caplog: pytest.LogCaptureFixture) -> None:
    write(root, {"0.tar": tarred([("x.jpg", image(1))]), "y.jpg": image(2)})
    assert by_id(listed(root)) == {"y.jpg": image(2)}
    assert "its tar files are not read" in caplog.text


@pytest.mark.parametrize("form", [tarfile.USTAR_FORMAT, tarfile.GNU_FORMAT, tarfile.PAX_FORMAT])
def test_tar_formats_folders_and_long_names(root: str, form: int) -> None:
    long = "d" * 80 + "/" + "n" * (60 if form == tarfile.USTAR_FORMAT else 150) + ".jpg"
    buffer = io.BytesIO()
    with tarfile.open(fileobj=buffer, mode="w", format=form) as archive:
        folder = tarfile.TarInfo("./d")
        folder.type = tarfile.DIRTYPE
        archive.addfile(folder)
        for n, name in enumerate((long, "./ä b.jpg", "empty.jpg")):
            member = tarfile.TarInfo(name)
            member.size = 0 if name == "empty.jpg" else len(image(n))
            archive.addfile(member, io.BytesIO(image(n)))
    write(root, {"x.tar": buffer.getvalue()})
    rows = listed(storage.join(root, "x.tar"))
    assert by_id(rows) == {f"x/{long}": image(0), "x/ä b.jpg": image(1), "x/empty.jpg": b""}


def test_columns_of_a_sample(root: str) -> None:
    members = [
        *(("0.jpg", image(1)), ("0.mask.png", image(2)), ("0.txt", b"zero")),
        *(("my.photo.jpg", image(3)), ("my.photo.txt", b"dots")),
        *(("2.JPG", image(4)), ("2.json", b"{damaged"), ("3.png", image(5)), ("3.txt", b"\xff")),
        *(("4.jpg", image(6)), ("4.json", b'{"text": "t"}'), ("5.txt", b"alone")),
    ]
    write(root, {"x.tar": tarred(members)})
    rows = listed(storage.join(root, "x.tar"))
    assert {row.image_id: row.caption for row in rows} == {
        "x/0.jpg": "zero",
        "x/my.photo.jpg": "dots",
        "x/2.JPG": None,
        "x/3.png": None,
        "x/4.jpg": "t",
    }


def test_damaged_tars(root: str) -> None:
    whole = tarred([(f"{n}.jpg", image(n) * 30) for n in range(4)])
    second = whole.index(b"1.jpg")
    damaged = bytearray(whole)
    damaged[second + 3] ^= 0xFF
    for data, message in (
        (bytes(damaged), f"damaged at byte {second}"),
        (whole[: second + 700], "damaged or cut off at byte"),
        (whole[: second + 200], f"damaged.* at byte {second}"),
        (b"", "is not an uncompressed tar"),
        (b"no tar" * 500, "is not an uncompressed tar"),
        (gzip.compress(whole), "decompress it"),
    ):
        write(root, {"x.tar": data})
        with pytest.raises(UserError, match=message):
            listed(storage.join(root, "x.tar"))
    # A tar without its closing zeros, as some writers leave it, is whole.
    write(root, {"x.tar": whole[: whole.index(b"3.jpg")]})
    assert len(listed(storage.join(root, "x.tar"))) == 3
    write(root, {"x.tar.gz": gzip.compress(whole)})
    with pytest.raises(UserError, match="decompress the tar first"):
        listed(storage.join(root, "x.tar.gz"))


def test_a_tar_that_got_shorter_after_listing(tmp_path: Path) -> None:
    whole = tarred([(f"{n}.jpg", image(n) * 3000) for n in range(3)])
    (tmp_path / "x.tar").write_bytes(whole)
    rows = listed(f"{tmp_path}/x.tar")
    (tmp_path / "x.tar").write_bytes(whole[: rows[1].offset + 5])
    first, second, third = read_many(rows)
    assert first == image(0) * 3000
    assert isinstance(second, OSError)
    assert isinstance(third, OSError)


def test_several_tars_in_one_file(root: str, caplog: pytest.LogCaptureFixture) -> None:
    first = tarred([("a.jpg", image(1)), ("a.txt", b"one")])
    second = tarred([("b.jpg", image(2)), ("b.txt", b"two")])
    write(root, {"x.tar": first + second})
    rows = listed(storage.join(root, "x.tar"))
    assert by_id(rows) == {"x/a.jpg": image(1), "x/b.jpg": image(2)}
    assert [row.caption for row in rows] == ["one", "two"]
    assert not caplog.text
    write(root, {"x.tar": first + b"no tar" * 100})
    assert by_id(listed(storage.join(root, "x.tar"))) == {"x/a.jpg": image(1)}
    assert "600 bytes behind its end are no tar" in caplog.text


def test_a_member_that_was_added_again_replaces_the_first(
    root: str, caplog: pytest.LogCaptureFixture
) -> None:
    write(root, {"x.tar": tarred([("a.jpg", image(1)), ("a.jpg", image(2))])})
    assert by_id(listed(storage.join(root, "x.tar"))) == {"x/a.jpg": image(2)}
    assert "1 members replace earlier ones of their name" in caplog.text


def test_captions_away_from_their_image_are_counted(
    root: str, caplog: pytest.LogCaptureFixture
) -> None:
    caplog.set_level("INFO")
    members = [("A.JPG", image(1)), ("A.TXT", b"one"), ("b.jpg", image(2)), ("c.txt", b"two")]
    write(root, {"x.tar": tarred(members)})
    rows = listed(storage.join(root, "x.tar"))
    assert [(row.image_id, row.caption) for row in rows] == [("x/A.JPG", "one"), ("x/b.jpg", None)]
    assert "1 .txt" in caplog.text


def test_a_caption_that_is_a_column_of_its_own(root: str) -> None:
    # As webdataset's TarWriter writes {"image.png": …, "caption.txt": …}.
    members = [("s0.image.png", image(1)), ("s0.caption.txt", b"one"), ("s0.cls", b"3")]
    write(root, {"x.tar": tarred(members)})
    (row,) = listed(storage.join(root, "x.tar"))
    assert (row.image_id, row.caption) == ("x/s0.image.png", "one")
