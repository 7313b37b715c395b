"""Members of archives: which are refused, and names that survive."""

from __future__ import annotations

import io
import stat
import tarfile
import zipfile
from pathlib import Path

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from pad_pipeline import storage
from pad_pipeline.errors import UserError
from tests.sources.samples import by_id, image, listed, tarred, write, zipped

FILES = {"00000/1.jpg": image(1), "ä b\n.PNG": image(2), "deep/er/3.webp": image(3) * 50}


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
