"""JSON, Parquet and names of files with what nobody expects in them."""

from __future__ import annotations

import datetime
import json
import os
from pathlib import Path

import pyarrow as pa
import pyarrow.parquet as pq
import pytest

from pad_pipeline.errors import UserError
from pad_pipeline.sources import ManifestRow, list_source, read_many
from pad_pipeline.sources.captions import read_captions
from tests.fuzz.targets import read_source
from tests.sources.samples import image, listed


@pytest.mark.parametrize("name", ["x.json", "x.jsonl"])
@pytest.mark.parametrize(
    ("entry", "message"),
    [
        ('{"image": "0.png", "n": ' + "9" * 5000 + "}", "digits"),
        ("[" * 5000 + "]" * 5000, "nested|recursion"),
        ('{"image": "0.png", "id": ' + '{"a":' * 5000 + "1" + "}" * 5001, "nested|recursion"),
        ('{"path": "0.png", "id": {"a": 1}}', "id that is text or a number"),
        ('{"path": "0.png", "id": [1]}', "id that is text or a number"),
        ('{"image": 7}', "should name images as text|no entry names an image"),
        ('{"image": {"a": 1}}', "should name images as text|no entry names an image"),
        ('"0.png"', "should be an object"),
        ("{'image': '0.png'}", "damaged"),
        ('{"image": "0.png"', "damaged"),
        ("\x00", "damaged|should hold a JSON list"),
    ],
)
def test_json_that_is_refused(tmp_path: Path, name: str, entry: str, message: str) -> None:
    (tmp_path / "0.png").write_bytes(image())
    text = entry if name == "x.jsonl" else f"[{entry}]"
    (tmp_path / name).write_text(text)
    with pytest.raises(UserError, match=message):
        listed(f"{tmp_path}/{name}")


@pytest.mark.parametrize("name", ["x.json", "x.jsonl"])
@pytest.mark.parametrize(
    ("entry", "image_id"),
    [
        ('{"image": "1.png", "image": "0.png"}', "0.png"),  # the last counts
        ('{"path": "0.png", "id": NaN, "caption": 1e999}', "nan"),
        ('{"path": "0.png", "id": -0.0}', "-0.0"),
        ('{"path": "0.png", "id": true}', "True"),
        ('{"path": "0.png", "id": "a\\ud800b"}', "a\\ud800b"),
        ('{"path": "0.png", "id": "../../x"}', "x"),
        ('{"path": "0.png", "id": "' + "n" * 1000 + '"}', "n" * 1000),
        ('{"path": "0.png", "id": "a\\nb"}', "a\nb"),
        ('{"path": "0.png", "caption": {"a": [[]]}, "conversations": {}}', "0.png"),
        ('{"path": "0.png", "conversations": [1, null, {"from": "gpt", "value": 3}]}', "0.png"),
    ],
)
@pytest.mark.parametrize("form", ["", "\ufeff", "crlf"])
def test_json_that_is_read(tmp_path: Path, name: str, entry: str, image_id: str, form: str) -> None:
    (tmp_path / "0.png").write_bytes(image())
    text = f"{entry}\n" if name == "x.jsonl" else f"[\n{entry}\n]\n"
    text = text.replace("\n", "\r\n") if form == "crlf" else form + text
    (tmp_path / name).write_bytes(text.encode())
    (row,) = listed(f"{tmp_path}/{name}")
    assert row.image_id == image_id
    assert read_many([row]) == [image()]
    assert row.caption is None or isinstance(row.caption, str)


def test_captions_with_too_many_digits(tmp_path: Path) -> None:
    for text in ("[" + "9" * 5000 + "]", '{"a": ' + "9" * 5000 + "}"):
        (tmp_path / "c.json").write_text(text)
        with pytest.raises(UserError, match="digits"):
            read_captions(f"{tmp_path}/c.json")


def _parquet(target: Path, /, **columns: object) -> str:
    pq.write_table(pa.table(columns), target)
    return str(target)


@pytest.mark.parametrize(
    "columns",
    [
        {"image": [1, 2]},
        {"path": [[["a"]], [["b"]]]},
        {"image": pa.array([b"\xff", b"\xfe"]).view(pa.binary()), "id": [[1], [2]]},
        {"path": ["0.png", None], "id": [{"a": None}, None], "caption": [1.5, None]},
        {"path": ["0.png", "../../x.png"], "conversations": [1, 2]},
        {"image": [{"bytes": None, "path": "0.png"}, {"bytes": None, "path": ""}]},
        {"jpg": [b"x", b"y"], "id": [datetime.timedelta(1), datetime.timedelta(2)]},
    ],
)
def test_parquet_of_other_types(tmp_path: Path, columns: dict[str, object]) -> None:
    (tmp_path / "0.png").write_bytes(image())
    assert read_source(_parquet(tmp_path / "x.parquet", **columns)) in (True, False)


def test_parquet_text_that_is_not_utf8(tmp_path: Path) -> None:
    url = _parquet(tmp_path / "x.parquet", image=[image()], caption=["abcdefgh"])
    data = Path(url).read_bytes()
    Path(url).write_bytes(data.replace(b"abcdefgh", b"abc\xff\xfe\x80gh"))
    with pytest.raises(UserError, match="damaged near row 0"):
        listed(url)
    Path(url).write_bytes(data.replace(b"caption", b"capt\xff\xfen"))
    with pytest.raises(UserError, match="not a readable Parquet"):
        listed(url)


def test_parquet_that_claims_more_rows_than_bytes(tmp_path: Path) -> None:
    """Nothing is read to list pictures, so their number would be believed."""
    url = _parquet(tmp_path / "x.parquet", image=pa.nulls(200_000, pa.binary()))
    with pytest.raises(UserError, match="200,000 rows in"):
        listed(url)


def test_parquet_of_many_empty_row_groups(tmp_path: Path) -> None:
    table = pa.table({"image": [image(n) for n in range(3)]})
    with pq.ParquetWriter(tmp_path / "x.parquet", table.schema) as writer:
        for n in range(600):
            writer.write_table(table.slice(n % 3, n % 2), row_group_size=1)
    rows = listed(f"{tmp_path}/x.parquet")
    assert len(rows) == 300
    assert len([item for item in read_many(rows) if isinstance(item, bytes)]) == 300


NAMES = [
    *(b"\xff\xfe.png", b"caf\xe9.png", b"a\nb.png", b"\x1b[31mred.png", b"\xe2\x80\xaegnp.png"),
    *("ä" * 120 + ".png").encode().split(b"|"),
    *(b"a\\b.png", b"~.png", b"a::b.png", b"{1..3}.png", b"*.png", b"%2e%2e.png", b" .png"),
    *(b"\\udcff.png", b"C:.png"),
]


def test_names_of_files_in_any_bytes_are_read(tmp_path: Path) -> None:
    pictures = {name: image(number) for number, name in enumerate(NAMES)}
    for name, data in pictures.items():
        with open(os.path.join(os.fsencode(tmp_path), name), "wb") as file:
            file.write(data)
    rows = listed(str(tmp_path))
    assert sorted(read_many(rows)) == sorted(pictures.values())  # type: ignore[type-var]
    for name in NAMES:  # each as a source of its own
        (row,) = list_source(os.fsdecode(os.path.join(os.fsencode(tmp_path), name)))
        assert read_many([row]) == [pictures[name]]


def test_the_message_for_a_name_that_is_not_utf8_says_so(tmp_path: Path) -> None:
    row = ManifestRow("x", f"{tmp_path}/gone\\udcff.png", None)
    (item,) = read_many([row])
    assert isinstance(item, FileNotFoundError)
    assert "not UTF-8" in str(item)


def test_names_of_a_thousand_characters_are_refused_clearly(tmp_path: Path) -> None:
    """No file system holds them; in archives and lists they work."""
    name = f"{tmp_path}/{'x' * 1000}.png"
    with pytest.raises(UserError, match="no such source"):
        listed(name)
    (item,) = read_many([ManifestRow("x", name, None)])
    assert isinstance(item, OSError)
    (tmp_path / "0.png").write_bytes(image())
    lines = [{"path": "0.png", "id": "a"}, {"path": "x" * 1000 + ".png", "id": "b"}]
    (tmp_path / "x.json").write_text(json.dumps(lines))
    items = read_many(listed(f"{tmp_path}/x.json"))
    assert items[0] == image()
    assert "name too long" in str(items[1])
