"""Braces and globs in the name of a source."""

from __future__ import annotations

import pytest

from pad_pipeline import storage
from pad_pipeline.errors import UserError
from tests.sources.samples import by_id, image, listed, tarred, write, zipped


def test_patterns_that_match_nothing(root: str) -> None:
    write(root, {"00000.tar": tarred([("x.jpg", image(0))]), "x.zip": zipped({"x.jpg": image(1)})})
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


@pytest.mark.parametrize(
    ("pattern", "names"),
    [
        ("{a..c}.tar", ["a", "b", "c"]),
        ("{2..0..2}.tar", ["2", "0"]),
        ("{08..10}.tar", ["08", "09", "10"]),
        ("{a,{2..0..2}}.tar", ["a", "2", "0"]),
        ("[a-c].tar", ["a", "b", "c"]),
        ("a{x}.tar", ["a{x}"]),
    ],
)
def test_braces_and_globs(root: str, pattern: str, names: list[str]) -> None:
    everything = ["a", "b", "c", "0", "2", "08", "09", "10", "a{x}"]
    write(root, {f"{name}.tar": tarred([("x.jpg", image(1))]) for name in everything})
    ids = [row.image_id for row in listed(storage.join(root, pattern))]
    assert ids == [f"{name}/x.jpg" for name in names]


def test_an_opening_brace_without_a_closing_one(root: str) -> None:
    write(root, {"a.tar": tarred([("x.jpg", image(1))])})
    with pytest.raises(UserError, match="a closing brace for every opening one"):
        listed(storage.join(root, "{a{1..2}.tar"))
