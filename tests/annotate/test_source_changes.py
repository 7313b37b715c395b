"""What changed in a source is said in numbers and names."""

from __future__ import annotations

import pyarrow as pa
import pytest

from pad_pipeline.annotate.source_changes import describe_changes


def images(*rows: tuple[str, str | None, int]) -> pa.Table:
    names, captions, sizes = zip(*rows, strict=True)
    return pa.table({"image_id": names, "caption": pa.array(captions, pa.string()), "size": sizes})


BEFORE = images(("a", "x", 10), ("b", "y", 20), ("c", None, 30))


@pytest.mark.parametrize(
    ("now", "message"),
    [
        (images(("a", "x", 10), ("b", "y", 20)), "had 3 images and has 2: 1 gone (c)"),
        (images(*[("a", "x", 10), ("b", "y", 20), ("c", None, 30), ("d", None, 5)]), "1 added (d)"),
        (images(("a", "x", 10), ("B", "y", 20), ("c", None, 30)), "1 renamed (b is B)"),
        (images(("a", "z", 10), ("b", "y", 20), ("c", None, 30)), "1 with another caption (a)"),
        (images(("a", "x", 10), ("b", "y", 21), ("c", None, 30)), "1 of another size (b)"),
        (images(("b", "y", 20), ("a", "x", 10), ("c", None, 30)), "the same in another order"),
        (images(("a", "x", 10), ("B", "y", -1), ("c", None, 30)), "1 added (B); 1 gone (b)"),
    ],
)
def test_each_kind_of_change(now: pa.Table, message: str) -> None:
    assert message in describe_changes(BEFORE, now)


def test_many_names_are_counted_and_the_first_are_named() -> None:
    now = images(*[(f"{n:02d}", None, -1) for n in range(9)])
    said = describe_changes(BEFORE.drop_columns(["size"]), now)
    assert "9 added (00, 01, 02, …); 3 gone (a, b, c)" in said
