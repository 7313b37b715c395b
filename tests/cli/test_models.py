"""The commands `pad-pipeline models …`."""

from __future__ import annotations

import json
from pathlib import Path

from pad_pipeline.scenes.writer import HELD_OUT_SEED, write_scenes
from tests.cli import place as cli_place
from tests.cli.runner import call


def test_the_known_models_are_listed_with_source_and_licence(here: Path, capfd) -> None:
    outcome = call(capfd, "models", "list")
    assert (outcome.code, outcome.err) == (0, "")
    assert "IDEA-Research/grounding-dino-tiny" in outcome.out
    assert "Apache-2.0" in outcome.out
    assert str(here / "no models") in outcome.out


def test_a_model_is_verified_within_the_tolerance_alone(here: Path, capfd) -> None:
    folder = cli_place.RAM
    outcome = call(capfd, "models", "verify", folder)
    assert (outcome.code, outcome.err) == (0, "")
    assert outcome.out.endswith("all agree\n")
    outcome = call(capfd, "models", "verify", folder, "--tolerance", "1e-12")
    assert (outcome.code, outcome.err) == (1, "")
    assert "DIFFERS" in outcome.out


def test_a_converted_model_is_a_model_directory(here: Path, tmp_path: Path, capfd) -> None:
    folder = cli_place.RAM
    words = ("models", "convert", "ram", folder / "checkpoint.safetensors", "--output")
    outcome = call(capfd, *words, tmp_path / "ram")
    assert (outcome.code, outcome.err) == (0, "")
    assert json.loads((tmp_path / "ram/config.json").read_text())["model_type"] == "ram"


def test_what_8_bits_change_is_told_and_that_they_were_emulated(
    here: Path, tmp_path: Path, capfd
) -> None:
    write_scenes(tmp_path / "scenes", num_images=1, seed=HELD_OUT_SEED)
    facts = tmp_path / "facts.json"
    words = ("models", "compare-precision", tmp_path / "scenes" / "images", "--preset", "demo")
    outcome = call(capfd, *words, "--device", "cpu", "--json", facts)
    assert (outcome.code, outcome.err) == (0, "")
    assert "8-bit products emulated on the CPU" in outcome.out
    assert "IoU of the masks, mean" in outcome.out
    assert json.loads(facts.read_text())["num_masks"] > 0
