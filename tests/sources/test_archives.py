"""ZIP files and WebDataset tars: offsets, captions, damage, and members that are refused."""

from __future__ import annotations

import gzip
import io
import re
import stat
import tarfile
import zipfile
from pathlib import Path

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from pad_pipeline import storage
from pad_pipeline.errors import UserError
from pad_pipeline.sources import read_many
from tests.sources.samples import by_id, image, listed, tarred, write, zipped

FILES = {"00000/1.jpg": image(1), "ä b\n.PNG": image(2), "deep/er/3.webp": image(3) * 50}
OTHERS = {"notes.txt": b"?", ".hidden.jpg": b"?", "__MACOSX/._1.jpg": b"?", "__MACOSX/x.jpg": b"?"}


@pytest.mark.parametrize(
    "compression", [zipfile.ZIP_STORED, zipfile.ZIP_DEFLATED, zipfile.ZIP_BZIP2]
)
def test_zip(root: str, compression: int) -> None:
    write(root, {"x.zip": zipped(FILES | OTHERS, compression)})
    source = storage.join(root, "x.zip")
    rows = listed(source)
    assert by_id(rows) == FILES
    assert rows[0].uri == f"zip://00000/1.jpg::{source}"
    assert [row.image_id for row in rows] == list(FILES)  # the archive's own order


def test_zip_offsets_hold_for_streamed_and_prefixed_archives(tmp_path: Path) -> None:
    """Sizes behind the data (as when zipping to a pipe), extra fields, bytes before the archive."""

    class Pipe(io.RawIOBase):
        def __init__(self) -> None:
            self.data = bytearray()

        def writable(self) -> bool:
            return True

        def write(self, data: bytes) -> int:  # type: ignore[override]
            self.data += data
            return len(data)

    pipe = Pipe()
    with zipfile.ZipFile(pipe, "w", zipfile.ZIP_DEFLATED) as archive:  # type: ignore[arg-type]
        for name, data in FILES.items():
            member = zipfile.ZipInfo(name)
            member.extra = b"\xfe\xca" + (500).to_bytes(2, "little") + b"x" * 500
            with archive.open(member, "w", force_zip64=True) as file:
                file.write(data)
    (tmp_path / "x.zip").write_bytes(b"#!/bin/sh\n" * 20 + bytes(pipe.data))
    assert by_id(listed(f"{tmp_path}/x.zip")) == FILES


def test_an_unreadable_zip_member_is_an_item_that_fails(root: str) -> None:
    data = bytearray(zipped(FILES, zipfile.ZIP_DEFLATED))
    at = data.index(b"00000/1.jpg") + len("00000/1.jpg")
    data[at + 5] ^= 0xFF
    write(root, {"x.zip": bytes(data), "lzma.zip": zipped(FILES, zipfile.ZIP_LZMA)})
    items = list(by_id(listed(storage.join(root, "x.zip"))).values())
    assert re.search("'00000/1.jpg' of .* is damaged", str(items[0]))
    assert items[1:] == list(FILES.values())[1:]
    for item in by_id(listed(storage.join(root, "lzma.zip"))).values():
        assert "compression method 14" in str(item)


def test_a_wrong_checksum_is_noticed(tmp_path: Path) -> None:
    data = bytearray(zipped(FILES))
    data[data.index(image(1)) + 20] ^= 1
    (tmp_path / "x.zip").write_bytes(data)
    items = list(by_id(listed(f"{tmp_path}/x.zip")).values())
    assert "checksum" in str(items[0])
    assert items[1:] == list(FILES.values())[1:]


def test_a_password_is_named(tmp_path: Path) -> None:
    data = bytearray(zipped(FILES))
    for magic, at in ((b"PK\x03\x04", 6), (b"PK\x01\x02", 8)):
        start = 0
        while (start := data.find(magic, start)) >= 0:
            data[start + at] |= 1
            start += 1
    (tmp_path / "x.zip").write_bytes(data)
    assert all("password" in str(item) for item in by_id(listed(f"{tmp_path}/x.zip")).values())


def test_a_zip_that_changed_after_listing(tmp_path: Path) -> None:
    (tmp_path / "x.zip").write_bytes(zipped(FILES))
    rows = listed(f"{tmp_path}/x.zip")
    (tmp_path / "x.zip").write_bytes(b"x" * 100 + zipped(FILES))
    assert all("did the archive change" in str(item) for item in read_many(rows))
    (tmp_path / "x.zip").unlink()
    assert all(isinstance(item, FileNotFoundError) for item in read_many(rows))


@pytest.mark.parametrize("name", ["../x.jpg", "a/../../x.jpg", "/etc/x.jpg", "..", "/x.txt"])
def test_names_that_leave_the_archive_are_refused(root: str, name: str) -> None:
    write(root, {"x.zip": zipped({name: image()}), "x.tar": tarred([(name, image())])})
    for source in ("x.zip", "x.tar"):
        with pytest.raises(UserError, match=rf"{source}: member .* leaves the archive"):
            listed(storage.join(root, source))


def test_links_and_devices_are_refused(root: str) -> None:
    link = zipfile.ZipInfo("link.jpg")
    link.external_attr = (stat.S_IFLNK | 0o777) << 16
    buffer = io.BytesIO()
    with zipfile.ZipFile(buffer, "w") as archive:
        archive.writestr(link, "/etc/passwd")
    write(root, {"x.zip": buffer.getvalue()})
    with pytest.raises(UserError, match=r"'link\.jpg' is a link"):
        listed(storage.join(root, "x.zip"))
    for kind, message in (
        (tarfile.SYMTYPE, "is a link"),
        (tarfile.LNKTYPE, "is a link"),
        (tarfile.CHRTYPE, "device"),
        (tarfile.FIFOTYPE, "pipe"),
    ):
        member = tarfile.TarInfo("x.jpg")
        member.type, member.linkname = kind, "/etc/passwd"
        buffer = io.BytesIO()
        with tarfile.open(fileobj=buffer, mode="w") as archive:
            archive.addfile(member)
        write(root, {"x.tar": buffer.getvalue()})
        with pytest.raises(UserError, match=message):
            listed(storage.join(root, "x.tar"))


def test_zips_that_are_none(root: str) -> None:
    whole = zipped(FILES)
    for data in (b"", b"no zip", whole[: len(whole) // 2], whole[:-30]):
        write(root, {"x.zip": data})
        with pytest.raises(UserError, match=r"x\.zip is no"):
            listed(storage.join(root, "x.zip"))
    write(root, {"x.zip": zipped(OTHERS)})
    with pytest.raises(UserError, match="no images in"):
        listed(storage.join(root, "x.zip"))


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
    assert "its tar and Parquet files are not read" in caplog.text


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


def test_patterns_that_match_nothing(root: str) -> None:
    write(root, {"00000.tar": tarred(shard(0)), "x.zip": zipped(FILES)})
    with pytest.raises(UserError, match=r"stands for .*00001\.tar among others, which does not"):
        listed(storage.join(root, "{00000..00003}.tar"))
    with pytest.raises(UserError, match="nothing matches"):
        listed(storage.join(root, "*.parquet"))
    with pytest.raises(UserError, match=r"several kinds of files \(tar, zip\)"):
        listed(storage.join(root, "*"))
    with pytest.raises(UserError, match="more than 1,000,000"):
        listed(storage.join(root, "{0000000..9999999}.tar"))


def test_a_file_whose_name_looks_like_a_pattern(root: str) -> None:
    write(root, {"[1] {a,b}.tar": tarred([("x.jpg", image(1))])})
    rows = listed(storage.join(root, "[1] {a,b}.tar"))
    assert by_id(rows) == {"[1] {a,b}/x.jpg": image(1)}


def test_a_container_whose_path_cannot_be_chained(tmp_path: Path) -> None:
    write(f"{tmp_path}/a::b", {"x.zip": zipped(FILES)} | FILES)
    with pytest.raises(UserError, match='must be without "::"'):
        listed(f"{tmp_path}/a::b/x.zip")
    assert len(by_id(listed(f"{tmp_path}/a::b"))) == len(FILES)


MEMBERS = st.text(
    st.characters(exclude_categories=["Cs"], exclude_characters="/\0\\"), min_size=1, max_size=60
).filter(lambda name: not name.startswith(".") and name.strip() and name != "__MACOSX")


@settings(max_examples=60, deadline=None)
@given(st.lists(MEMBERS, min_size=1, max_size=5, unique=True), st.booleans())
def test_any_member_name_survives(
    tmp_path_factory: pytest.TempPathFactory, names: list[str], nested: bool
) -> None:
    root = tmp_path_factory.mktemp("members")
    files = {f"{n}/x.jpg" if nested else f"{n}.jpg": image(i) for i, n in enumerate(names)}
    (root / "a.zip").write_bytes(zipped(files))
    assert by_id(listed(f"{root}/a.zip")) == files
    (root / "a.tar").write_bytes(tarred(files.items()))
    assert by_id(listed(f"{root}/a.tar")) == {f"a/{name}": data for name, data in files.items()}
