"""The command `analyze`."""

from __future__ import annotations

import json
from pathlib import Path

import pytest

from tests.cli.runner import call


def test_a_run_is_measured_and_its_pictures_drawn(
    capfd, scenes: Path, trained_run: Path, tmp_path: Path
) -> None:
    done = call(
        capfd,
        *("analyze", trained_run, "--annotations", scenes / "annotations"),
        *("--output", tmp_path / "analysis", "--num-images", "4", "--num-pictures", "1"),
    )
    assert done.code == 0, done.err
    found = json.loads((tmp_path / "analysis" / "analysis.json").read_text())
    assert found["num_images"] == 4
    assert found["delta_entropy"] == pytest.approx(found["entropy_before"] - found["entropy_after"])
    assert 0 <= found["align"] <= found["align_by_threshold"]["oracle"] <= 1
    pictures = sorted(path.name for path in (tmp_path / "analysis").glob("*.png"))
    assert pictures == ["0000.png-align.png", "0000.png-tokenmap.png"]


def test_the_spectrum_says_what_lies_behind_the_entropies(
    capfd, scenes: Path, trained_run: Path, tmp_path: Path
) -> None:
    done = call(
        capfd,
        *("evaluate", "alignment", trained_run, "--annotations", scenes / "annotations"),
        *("--output", tmp_path / "out", "--num-images", "4", "--num-pictures", "0", "--spectrum"),
    )
    assert done.code == 0, done.err
    found = json.loads((tmp_path / "out" / "analysis.json").read_text())
    spectra = found["spectrum"]
    assert spectra["patches"]["entropy"] == pytest.approx(found["entropy_before"])
    assert spectra["tokens"]["entropy"] == pytest.approx(found["entropy_after"])
    assert spectra["label_targets"]["num_tokens"] == found["num_regions"]
    together = sum(spectra[name]["num_tokens"] for name in ("masked_tokens", "unmasked_tokens"))
    assert together == spectra["tokens"]["num_tokens"]
    assert "label targets" in done.out


def test_a_projector_names_as_many_patches_however_many_pictures_are_drawn(
    capfd, scenes: Path, trained_run: Path, tmp_path: Path
) -> None:
    found = []
    for number in ("1", "3"):
        output = tmp_path / number
        done = call(
            capfd,
            *("analyze", trained_run, "--annotations", scenes / "annotations", "--output", output),
            *("--num-images", "3", "--num-pictures", number, "--iterations", "2"),
        )
        assert done.code == 0, done.err
        maps = [json.loads(path.read_text()) for path in sorted((output / "maps").glob("*.json"))]
        assert [len(each["images"]) for each in maps] == [int(number)] * 2
        found.append([(each["images"][0]["words"], each["images"][0]["colours"]) for each in maps])
    assert found[0] == found[1]
    assert any(colours for _, colours in found[0])
