"""Near-duplicates: copies are found, different scenes are not; many at once are compared well."""

from __future__ import annotations

import numpy as np
import pytest

from pad_pipeline.dataset.reader import open_dataset
from pad_pipeline.errors import UserError
from pad_pipeline.similarity.duplicates import find_pairs, read_groups, representatives
from pad_pipeline.similarity.search import build_index
from pad_pipeline.similarity.store import Vectors, require_embeddings


def test_copies_are_found_and_different_scenes_are_not(shared_set: str) -> None:
    groups = read_groups(require_embeddings(open_dataset(shared_set)))
    assert [group.image_ids for group in groups] == [
        ("scene_0.png", "copy/jpeg.jpg"),
        ("scene_1.png", "copy/smaller.jpg"),
    ]
    assert all(0.9 <= group.similarity <= 1 for group in groups)
    assert representatives(groups)["scene_0.png"] == "copy/jpeg.jpg"


def test_a_higher_similarity_leaves_fewer(shared_set: str) -> None:
    embeddings = require_embeddings(open_dataset(shared_set))
    assert len(read_groups(embeddings, 0.9999)) < 2
    with pytest.raises(UserError, match=r"kept from a similarity of 0.9 .*duplicates_from=0.5"):
        read_groups(embeddings, 0.5)


@pytest.mark.parametrize("exact", [True, False])
def test_planted_pairs_are_found(exact: bool, monkeypatch: pytest.MonkeyPatch) -> None:
    make = np.random.default_rng(0)
    count, width = 3000, 160
    if not exact:
        monkeypatch.setattr("pad_pipeline.similarity.search.EXACT_UP_TO", 1000)
    values = make.normal(size=(count, 24)) @ make.normal(size=(24, width))
    values += 0.1 * make.normal(size=values.shape)
    copies = np.arange(100)
    values[copies + 2000] = values[copies] + 0.05 * make.normal(size=(100, width))
    values /= np.linalg.norm(values, axis=1, keepdims=True)
    rows = np.arange(count) * 3
    looks = make.integers(0, 256, (count, 8, 8), np.uint8)
    looks[copies + 2000] = looks[copies, :, ::-1]  # mirrored
    found = Vectors(values.astype(np.float16), rows, np.zeros(count, np.int32))
    index = build_index(lambda: [found], count, width)
    pairs, similarities = find_pairs(found.values, looks, rows, index, 0.95)
    wanted = np.stack([copies * 3, (copies + 2000) * 3], axis=1)
    assert len(pairs) == 100 if exact else len(pairs) >= 95
    assert set(map(tuple, pairs.tolist())) <= set(map(tuple, wanted.tolist()))
    assert similarities.min() >= 0.95
    looks[copies[:50] + 2000] = 255 - looks[copies[:50]]  # they mean the same, and look otherwise
    assert len(find_pairs(found.values, looks, rows, index, 0.95)[0]) == len(pairs) - 50


def test_uniform_pictures_are_duplicates_of_each_other_alone() -> None:
    vectors = np.ones((3, 4), np.float16) / 2
    looks = np.full((3, 8, 8), 200, np.uint8)
    looks[2] = np.arange(64).reshape(8, 8)
    found = Vectors(vectors, np.arange(3), np.zeros(3, np.int32))
    index = build_index(lambda: [found], 3, 4)
    pairs, _ = find_pairs(vectors, looks, found.rows, index, 0.9)
    assert pairs.tolist() == [[0, 1]]
