"""Names of the pictures that `analyze` draws."""

from __future__ import annotations

from pad_pipeline.evaluate.map_pictures import file_stems


def test_no_two_images_share_a_name() -> None:
    ids = [
        "a/b.png",
        "a_b.png",
        "a b.png",
        "plain.png",
        "x" * 400 + ".png",
        "y" + "x" * 400 + ".png",
    ]
    stems = file_stems(ids)
    assert stems[:4] == ["a_b.png", "a_b.png-2", "a_b.png-3", "plain.png"]
    assert len(set(stems)) == len(ids)
    assert all(len(stem.encode()) < 200 and "/" not in stem for stem in stems)
