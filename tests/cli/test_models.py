"""The commands `pad-pipeline models …`."""

from __future__ import annotations

import json
from pathlib import Path

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
