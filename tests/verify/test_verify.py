"""Verification: recorded outputs pass, every kind of difference is seen, other sizes work."""

from __future__ import annotations

import json
import math
import shutil
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from safetensors.torch import load_file, save_file

from pad_pipeline.errors import UserError
from pad_pipeline.verify.rows import VerifyRow, compare, compare_decisions
from pad_pipeline.verify.run import verify
from tests.golden_data import GOLDEN, golden_dir

MODELS = ["ram_tiny", "ram_plus_tiny", "gdino_tiny", "gdino_d256", "sam_tiny"]


@pytest.mark.parametrize("name", [*MODELS, "pipeline_e2e"])
def test_recorded_outputs_pass_and_every_tensor_has_a_row(name: str) -> None:
    folder = golden_dir(name)
    if name == "pipeline_e2e":
        for used in ("ram_tiny", "gdino_tiny", "sam_tiny"):
            golden_dir(used)
    rows = verify(folder)
    assert [row for row in rows if not row.ok] == []
    assert set(load_file(folder / "expected.safetensors")) <= {row.name for row in rows}
    skipped = {row.name for row in rows if row.max_abs_difference is None}
    recorded = json.loads((folder / "expected.json").read_text()).get("cases", {})
    mixed = [name for name, case in recorded.items() if len(set(case.get("captions", ()))) > 1]
    assert all(name.split(".")[0] in mixed for name in skipped)
    assert all("not compared" in row.note for row in rows if row.name in skipped)


@pytest.mark.parametrize("name", ["pipeline", "preprocess"])
def test_the_steps_between_the_models_pass(name: str) -> None:
    folder = golden_dir(name)
    golden_dir("sam_tiny")
    rows = verify(folder)
    assert [row for row in rows if not row.ok] == []
    assert all(row.max_abs_difference is not None for row in rows)
    assert rows


# --- differences are seen


@pytest.fixture
def altered(tmp_path: Path) -> Callable[..., dict[str, VerifyRow]]:
    """A function that changes a copy of a golden folder and returns the rows by name."""

    def run(
        name: str,
        tensors: Callable[[dict[str, torch.Tensor]], Any] | None = None,
        recorded: Callable[[Any], Any] | None = None,
        tolerance: float = 1e-4,
    ) -> dict[str, VerifyRow]:
        folder = tmp_path / name
        shutil.rmtree(folder, ignore_errors=True)
        shutil.copytree(golden_dir(name), folder)
        for path in (folder, *folder.iterdir()):
            path.chmod(0o755)
        if tensors:
            expected = load_file(folder / "expected.safetensors")
            tensors(expected)
            save_file(expected, folder / "expected.safetensors")
        if recorded:
            content = json.loads((folder / "expected.json").read_text())
            recorded(content)
            (folder / "expected.json").write_text(json.dumps(content))
        return {row.name: row for row in verify(folder, tolerance)}

    return run


def failed(rows: dict[str, VerifyRow]) -> list[str]:
    return [name for name, row in rows.items() if not row.ok]


def test_a_number_beyond_the_tolerance_fails_its_row_alone(altered: Any) -> None:
    def nudge(expected: dict[str, torch.Tensor]) -> None:
        expected["logits"][0, -1] += 5e-4

    rows = altered("ram_tiny", nudge)
    assert failed(rows) == ["logits"]
    assert rows["logits"].max_abs_difference == pytest.approx(5e-4, rel=0.05)
    assert failed(altered("ram_tiny", nudge, tolerance=1e-3)) == []


def test_a_tag_given_otherwise_fails(altered: Any) -> None:
    def flip(expected: dict[str, torch.Tensor]) -> None:
        expected["fired"][-1, 0] ^= True

    assert failed(altered("ram_tiny", flip)) == ["fired"]
    images = json.loads((golden_dir("ram_tiny") / "expected.json").read_text())["tags"]
    tagged = max(index for index, tags in enumerate(images) if tags)
    rows = altered("ram_tiny", recorded=lambda content: content["tags"][tagged].pop())
    assert failed(rows) == ["tags of each image"]
    assert f"no. {tagged}" in rows["tags of each image"].note


def test_a_box_kept_otherwise_or_a_moved_infinity_fails(altered: Any) -> None:
    recorded = json.loads((golden_dir("gdino_tiny") / "expected.json").read_text())
    case = next(iter(recorded["cases"]))
    first, *_, last = [n for n, post in enumerate(recorded["post_processing"]) if post["phrases"]]

    def drop(expected: dict[str, torch.Tensor]) -> None:
        boxes = expected[f"post{first}.boxes_filt"]
        expected[f"post{first}.boxes_filt"] = boxes[1:].clone()
        logits = expected[f"{case}.pred_logits"]
        assert logits[0, 0, -1] == -math.inf
        logits[0, 0, -1] = 0.0

    def rename(content: Any) -> None:
        phrases = content["post_processing"][last]["phrases"]
        phrases[0] = f"another {phrases[0]}"

    rows = altered("gdino_tiny", drop, rename)
    logits = rows[f"{case}.pred_logits"]
    assert set(failed(rows)) == {f"post{first}.boxes_filt", logits.name, f"post{last}.phrases"}
    assert logits.max_abs_difference == math.inf


@pytest.mark.parametrize(("share", "fails"), [(0.0007, False), (0.0013, True)])
def test_a_tenth_of_a_percent_of_a_masks_pixels_may_differ(
    altered: Any, share: float, fails: bool
) -> None:
    cases = json.loads((golden_dir("sam_tiny") / "expected.json").read_text())["cases"]
    name, case = next(iter(cases.items()))
    size = math.prod(case["original_size_hw"])
    pixels = round(share * size)

    def flip(expected: dict[str, torch.Tensor]) -> None:
        packed = expected[f"{name}.masks_packed"].numpy()
        bits = np.unpackbits(packed[-1])
        bits[size // 3 : size // 3 + pixels] ^= 1
        packed[-1] = np.packbits(bits)

    rows = altered("sam_tiny", flip)
    row = rows[f"{name}.masks_packed"]
    assert failed(rows) == ([row.name] if fails else [])
    # a few pixels may differ from the original's to begin with
    assert row.max_abs_difference == pytest.approx(pixels / size, abs=0.0002)


def test_comparing_numbers() -> None:
    inf, nan = math.inf, math.nan
    assert compare("x", [1.0, -inf], [1.0, -inf], 0.0).ok
    assert not compare("x", [1.0, inf], [1.0, -inf], 1.0).ok
    assert not compare("x", [nan], [1.0], 1.0).ok
    assert not compare("x", [[1.0]], [1.0], 1.0).ok
    assert not compare("x", [1, 2], [1, 3], 5.0).ok  # whole numbers are exact
    assert compare("x", torch.zeros(0, 4), torch.zeros(0, 4), 0.0).max_abs_difference == 0
    assert compare_decisions("x", "abc", "abd").max_abs_difference == 1
    assert not compare_decisions("x", "ab", "abc").ok


# --- other folders of the same form


def test_folders_with_other_cases_and_sizes(altered: Any, tmp_path: Path) -> None:
    """One image under another name; fewer tensors; a folder of folders."""
    altered("sam_tiny")
    folder = tmp_path / "sam_tiny"
    recorded = json.loads((folder / "expected.json").read_text())
    name = list(recorded["cases"])[-1]
    case = recorded["cases"].pop(name)
    recorded["cases"] = {"a.photo": {**case, "image": "renamed.png"}}
    (folder / "expected.json").write_text(json.dumps(recorded))
    (folder / case["image"]).rename(folder / "renamed.png")
    for file in ("inputs.safetensors", "expected.safetensors"):
        tensors = load_file(folder / file)
        kept = {k: v for k, v in tensors.items() if k.startswith(f"{name}.")}
        kept = {k.replace(f"{name}.", "a.photo."): v.clone() for k, v in kept.items()}
        kept.pop("a.photo.mask_logits_first2", None)
        save_file(kept, folder / file)
    altered("ram_tiny")
    ram = tmp_path / "ram_tiny"
    pixels = load_file(ram / "inputs.safetensors")["image"][-1:].clone()
    save_file({"image": pixels}, ram / "inputs.safetensors")
    expected = load_file(ram / "expected.safetensors")
    one = {k: v if k == "label_embed_proj" else v[-1:].clone() for k, v in expected.items()}
    save_file(one, ram / "expected.safetensors")
    recorded = json.loads((ram / "expected.json").read_text())
    (ram / "expected.json").write_text(json.dumps({"tags": recorded["tags"][-1:]}))
    (tmp_path / "notes").mkdir()
    rows = verify(tmp_path)
    assert [row.name for row in rows if not row.ok] == []
    assert {row.name.split("/")[0] for row in rows} == {"ram_tiny", "sam_tiny"}
    assert "sam_tiny/a.photo.low_res_masks" in {row.name for row in rows}


def test_folders_of_another_form_are_refused(tmp_path: Path) -> None:
    with pytest.raises(UserError, match="there is no folder"):
        verify(tmp_path / "nowhere")
    with pytest.raises(UserError, match=r"holds neither a config\.json"):
        verify(tmp_path)
    (tmp_path / "config.json").write_text('{"model": "yolo"}')
    with pytest.raises(UserError, match="names the model 'yolo'; expected one of ram"):
        verify(tmp_path)
    shutil.copy(golden_dir("sam_tiny") / "config.json", tmp_path / "config.json")
    with pytest.raises(UserError, match=r"incomplete: expected\.json is missing"):
        verify(tmp_path)


def test_a_checkpoint_that_does_not_fit_is_named(altered: Any, tmp_path: Path) -> None:
    altered("ram_tiny")
    checkpoint = tmp_path / "ram_tiny" / "checkpoint.safetensors"
    state = load_file(checkpoint)
    del state["fc.weight"]
    save_file(state, checkpoint)
    with pytest.raises(UserError, match=r"1 missing \(fc\.weight\)"):
        verify(tmp_path / "ram_tiny")


def test_the_golden_folder_as_a_whole_has_all_its_sets() -> None:
    from pad_pipeline.verify.run import _folders_in

    known = [*MODELS, "pipeline", "preprocess", "pipeline_e2e"]
    assert set(_folders_in(GOLDEN)) == {golden_dir(name) for name in known}
