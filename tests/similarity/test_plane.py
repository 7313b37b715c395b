"""The map: what is alike lies together, whatever places it."""

from __future__ import annotations

import sys
from types import ModuleType

import numpy as np
import pytest

from pad_pipeline.errors import UserError
from pad_pipeline.similarity.plane import choose_kind, place_on_plane


def two_clouds() -> np.ndarray:
    make = np.random.default_rng(0)
    centres = np.repeat(make.normal(size=(2, 16)), 20, axis=0)
    return (centres + 0.05 * make.normal(size=centres.shape)).astype(np.float16)


def test_principal_axes_keep_clouds_apart() -> None:
    places = place_on_plane(two_clouds(), "pca")
    assert places.min() == 0
    assert places.max() == 1
    assert abs(places[:20, 0].mean() - places[20:, 0].mean()) > 0.8


@pytest.mark.parametrize("count", [0, 1, 3])
def test_few_images_have_places_too(count: int) -> None:
    places = place_on_plane(np.ones((count, 8), np.float16), "umap")
    assert places.shape == (count, 2)
    assert np.isfinite(places).all()


def test_umap_is_taken_where_it_is_installed(monkeypatch: pytest.MonkeyPatch) -> None:
    class Umap:
        def __init__(self, **options: object) -> None:
            self.shift = 0.0

        def fit_transform(self, points: np.ndarray) -> np.ndarray:
            return points[:, :2]

        transform = fit_transform

    module = ModuleType("umap")
    module.UMAP = Umap  # type: ignore[attr-defined]
    monkeypatch.setitem(sys.modules, "umap", module)
    monkeypatch.setattr("pad_pipeline.similarity.plane._LEARNT_FROM", 10)
    assert np.allclose(place_on_plane(two_clouds(), "umap"), place_on_plane(two_clouds(), "pca"))
    monkeypatch.setattr("pad_pipeline.similarity.plane.find_spec", lambda name: None)
    assert choose_kind("auto") == "pca"
    with pytest.raises(UserError, match=r"embed.map='umap' needs .*pip install umap-learn"):
        choose_kind("umap")
    monkeypatch.setattr("pad_pipeline.similarity.plane.find_spec", lambda name: object())
    assert choose_kind("auto") == "umap"
