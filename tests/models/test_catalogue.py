"""The list of known models, what is found on disk, references and fingerprints."""

from __future__ import annotations

import json
import math
import subprocess
import sys
from pathlib import Path

import pytest

from pad_pipeline.errors import UserError
from pad_pipeline.models import references
from pad_pipeline.models.catalogue import find, list_models
from pad_pipeline.models.known_models import KNOWN
from pad_pipeline.models.references import fingerprint, resolve
from tests.golden_data import golden_dir


@pytest.fixture(autouse=True)
def empty_disk(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    monkeypatch.setenv("PAD_MODELS", str(tmp_path / "models"))
    monkeypatch.setenv("HF_HUB_CACHE", str(tmp_path / "hub"))
    monkeypatch.setattr(references, "EMBEDDED_WEIGHTS", tmp_path / "embedded")
    monkeypatch.setattr("pad_pipeline.models.catalogue.EMBEDDED_WEIGHTS", tmp_path / "embedded")
    return tmp_path


def write(path: Path, content: str = "x") -> Path:
    path.parent.mkdir(parents=True, exist_ok=True)
    path.write_text(content)
    return path


@pytest.mark.parametrize("preset", ["paper", "fast", "sam3"])
def test_every_default_of_the_presets_is_known(preset: str) -> None:
    from pad_pipeline.engine.config import PRESETS

    config = PRESETS[preset]()
    known = {model.reference: model for model in KNOWN}
    roles = {"tag": "tagger", "detect": "detector", "segment": "segmenter"}
    for stage in config.models:
        assert known[getattr(config, stage).model].role == roles[stage]
    assert len(known) == len(KNOWN)


def test_hub_models_need_no_conversion_and_the_others_name_a_file() -> None:
    for model in KNOWN:
        assert model.source.startswith(("https://", "npm:"))
        assert ("SAM License" if "sam3" in model.reference else "Apache-2.0") in model.licence
        assert model.is_gated == (model.reference == "facebook/sam3")
        assert (model.convert is None) == ("/" in model.reference)
        assert (model.file == "model.safetensors") == (model.convert is None)
        assert (model.sha256 is None) == (model.convert is None)
        assert model.sha256 is None or len(model.sha256) == 64


@pytest.mark.parametrize(
    ("keys", "file"),
    [
        ("sam_vit_h", "sam_vit_h_4b8939.pth"),
        ("sam_vit_l", "sam_vit_l_0b3195.pth"),
        ("sam_vit_b", "sam_vit_b_01ec64.pth"),
        ("gdino_swint", "groundingdino_swint_ogc.pth"),
        ("gdino_swinb", "groundingdino_swinb_cogcoor.pth"),
    ],
)
def test_sizes_are_those_of_the_weights(keys: str, file: str) -> None:
    listing = json.loads(golden_dir(f"{keys}_full_keys.json").read_text())["keys"]
    gigabytes = 4 * sum(math.prod(shape) for _, shape, *_ in listing) / 1e9
    (model,) = (model for model in KNOWN if model.file == file)
    assert model.size_gb == pytest.approx(gigabytes, abs=0.07)


def test_nothing_is_on_an_empty_disk() -> None:
    listed = list_models()
    assert {entry.path for entry in listed} == {None}
    assert len(listed) == 3 + len(KNOWN)


def test_what_is_on_disk_is_found(empty_disk: Path) -> None:
    folder, hub = empty_disk / "models", empty_disk / "hub"
    write(folder / "ram" / "config.json", '{"model_type": "ram"}')
    write(folder / "sam_vit_b_01ec64.pth")
    write(folder / "mine" / "config.json", '{"model_type": "sam_hq"}')
    write(folder / "notes.txt")
    write(empty_disk / "embedded" / "tagger" / "config.json", "{}")
    repository = hub / "models--facebook--sam-vit-huge"
    write(repository / "refs" / "main", "abc")
    snapshot = write(repository / "snapshots" / "abc" / "model.safetensors").parent
    unfinished = hub / "models--facebook--sam-vit-base"
    write(unfinished / "refs" / "main", "abc")
    write(unfinished / "snapshots" / "abc" / "config.json")
    plus = hub / "models--xinyu1205--recognize-anything-plus-model"
    write(plus / "refs" / "main", "def")
    file = write(plus / "snapshots" / "def" / "ram_plus_swin_large_14m.pth")
    found = {(entry.reference, entry.role): entry.path for entry in list_models() if entry.path}
    assert found == {
        ("embedded", "tagger"): empty_disk / "embedded" / "tagger",
        ("ram", "tagger"): folder / "ram",
        ("ram-plus", "tagger"): file,
        ("facebook/sam-vit-huge", "segmenter"): snapshot,
        ("sam_vit_b_01ec64", "segmenter"): folder / "sam_vit_b_01ec64.pth",
        ("mine", "segmenter"): folder / "mine",
    }
    (huge,) = (model for model in KNOWN if model.reference == "facebook/sam-vit-huge")
    write(folder / "sam-vit-huge" / "config.json")
    assert find(huge) == folder / "sam-vit-huge"  # the user's own comes first


def test_references_are_paths_names_and_hub_ids_in_this_order(
    empty_disk: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    folder = empty_disk / "models"
    write(folder / "owner" / "name" / "config.json")
    assert resolve("owner/name") == folder / "owner" / "name"
    monkeypatch.chdir(empty_disk)
    write(empty_disk / "owner" / "name" / "config.json")
    assert resolve("owner/name") == Path("owner/name")
    write(empty_disk / "ram" / "setup.py")
    assert resolve("ram") == Path("ram")
    write(folder / "ram" / "config.json")
    assert resolve("ram") == folder / "ram"
    assert resolve("facebook/sam-vit-huge") == "facebook/sam-vit-huge"
    with pytest.raises(UserError, match="no embedded tagger"):
        resolve("embedded", "tagger")
    for wrong in ("nothing", "./owner/other", "weights/sam.pth", "/a/b", "a/b/c", ""):
        with pytest.raises(UserError, match="there is no model"):
            resolve(wrong)


def test_fingerprints_follow_the_content_not_the_place(empty_disk: Path) -> None:
    for name in ("a", "b"):
        write(empty_disk / name / "config.json", "{}")
        write(empty_disk / name / "model.safetensors", "weights")
    first = fingerprint(empty_disk / "a")
    assert first == fingerprint(empty_disk / "b")
    assert first.startswith("sha256:")
    write(empty_disk / "b" / ".DS_Store")
    assert first == fingerprint(empty_disk / "b")
    write(empty_disk / "b" / "model.safetensors", "weighty")
    second = fingerprint(empty_disk / "b")
    (empty_disk / "b" / "model.safetensors").rename(empty_disk / "b" / "other.safetensors")
    third = fingerprint(empty_disk / "b")
    file = fingerprint(empty_disk / "a" / "model.safetensors")
    assert len({first, second, third, file}) == 4
    with pytest.raises(UserError, match="there is no model"):
        fingerprint(empty_disk / "c")


def test_fingerprints_of_the_embedded_models_cover_all_roles(empty_disk: Path) -> None:
    for role in ("tagger", "detector", "segmenter"):
        write(empty_disk / "embedded" / role / "config.json", role)
    whole = fingerprint("embedded")
    parts = {fingerprint("embedded", role) for role in ("tagger", "detector")}  # type: ignore[arg-type]
    assert len({whole, *parts}) == 3


def test_listing_and_resolving_import_no_model_library() -> None:
    code = (
        "import sys; from pad_pipeline.models import catalogue; catalogue.list_models(); "
        "print(sorted({'torch', 'transformers', 'ray'} & set(sys.modules)))"
    )
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True)
    assert done.stdout.strip() == "[]"
