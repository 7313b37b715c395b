"""Names as people's files have them: of Windows, of URLs, of Unicode, without an ending."""

from __future__ import annotations

import unicodedata
from typing import Literal

import pytest

from pad_pipeline import storage
from pad_pipeline.errors import UserError
from pad_pipeline.sources import list_source
from pad_pipeline.sources.rows import is_image_name
from pad_pipeline.sources.zips import member_id
from tests.sources.samples import by_id, image, listed, write, write_json, zipped

ACCENT = "Ä b.png"


@pytest.mark.parametrize(
    "named",
    [ACCENT, "%C3%84%20b.png", unicodedata.normalize("NFD", ACCENT), ".\\" + ACCENT],
)
@pytest.mark.parametrize("form", ["NFC", "NFD"])
@pytest.mark.parametrize("packed", [False, True])
def test_a_path_is_found_however_it_is_spelt(
    root: str, named: str, form: Literal["NFC", "NFD"], packed: bool
) -> None:
    files = {unicodedata.normalize(form, "x/" + ACCENT): image(1), "x/c.png": image(2)}
    write(root, {"images.zip": zipped(files)} if packed else files)
    entries = [{"image": "x/c.png"}, {"image": f"x/{named}"}]
    source = write_json(storage.join(root, "list.json"), entries)
    assert list(by_id(listed(source)).values()) == [image(2), image(1)]


def test_a_file_whose_name_holds_the_code_is_itself(root: str) -> None:
    write(root, {"a%20b.png": image(1), "a b.png": image(2)})
    source = write_json(storage.join(root, "list.json"), [{"image": "a%20b.png"}])
    assert by_id(listed(source)) == {"a%20b.png": image(1)}


@pytest.mark.parametrize(
    ("member", "image_id"),
    [
        ("./a.png", "a.png"),
        ("a\\b.png", "a/b.png"),
        ("é/ü.png".encode().decode("cp437"), "é/ü.png"),
        ("é.png", "é.png"),
        ("日本.png", "日本.png"),
    ],
)
def test_ids_of_zip_members(root: str, member: str, image_id: str) -> None:
    assert member_id(member) == image_id
    write(root, {"x.zip": zipped({member: image(1)})})
    assert by_id(listed(storage.join(root, "x.zip"))) == {image_id: image(1)}


def test_captions_of_names_without_an_ending(root: str) -> None:
    write(root, {"a.png": image(1), "b/c.d.png": image(2), "e.png": image(3)})
    names = {"a": "A", "b/c.d": "CD", "e": "no", "e.png": "E"}
    captions = write_json(storage.join(root, "captions.json"), names)
    rows = list_source(root, captions=captions)
    assert {row.image_id: row.caption for row in rows} == {
        "a.png": "A",
        "b/c.d.png": "CD",
        "e.png": "E",
    }


@pytest.mark.parametrize("name", ["@eaDir/a.jpg/X.jpg", "x/__MACOSX/a.jpg", "x/._a.jpg"])
def test_what_systems_leave_is_no_image(root: str, name: str) -> None:
    assert not is_image_name(name)
    write(root, {"a.jpg": image(), name: b"?"})
    assert [row.image_id for row in list_source(root)] == ["a.jpg"]


@pytest.mark.parametrize(
    ("entry", "message"),
    [
        ({"data": {"image": "a.png"}, "id": 1}, "no entry names an image: .*has 'data, id'"),
        ({"image": "data:image/png;base64,aGk="}, "entry 1 holds its image as a data URL"),
        ({"image": "x" * 5000}, "names images such as 'x{200}', found"),
    ],
)
def test_entries_that_name_no_image_are_explained(root: str, entry: object, message: str) -> None:
    source = write_json(storage.join(root, "list.json"), [entry])
    with pytest.raises(UserError, match=message):
        list(list_source(source))


def test_images_in_a_tar_beside_a_list_are_refused(root: str) -> None:
    write(root, {"images.tar": b"?"})
    source = write_json(storage.join(root, "list.json"), [{"image": "a.png"}])
    with pytest.raises(UserError, match=r"expected a folder or \.zip of images, found the file"):
        list(list_source(source, images=storage.join(root, "images.tar")))


def test_a_folder_without_images_says_what_it_has(root: str) -> None:
    write(root, {"a.png.gz": b"?", "b.png.gz": b"?", "c.txt": b"?"})
    with pytest.raises(UserError, match=r"no images in .* \(there are 2 \.gz, 1 \.txt\): looked"):
        list(list_source(root))


@pytest.mark.parametrize("name", ["x.7z", "x.rar", "x.jpg.gz"])
def test_archives_that_are_not_read_are_to_be_unpacked(root: str, name: str) -> None:
    write(root, {name: b"?"})
    with pytest.raises(UserError, match="unpack it first"):
        list(list_source(storage.join(root, name)))
