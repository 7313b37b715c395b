"""Experiments: every arm is trained as it says, failures are named, the report is one file."""

from __future__ import annotations

import json
import re
from dataclasses import replace
from itertools import product
from pathlib import Path
from typing import Any, get_args

import pytest

from pad_pipeline.errors import UserError
from pad_pipeline.reproduce import experiments
from pad_pipeline.reproduce.bench import QUICK, Arm, Bench
from pad_pipeline.reproduce.byte_level_llm import learn_tokenizer
from pad_pipeline.reproduce.experiments import (
    ARMS,
    Experiment,
    failure_signatures,
    run_experiment,
    summarise,
)
from pad_pipeline.reproduce.report import write_report
from pad_pipeline.train.run.models import locate
from pad_pipeline.train.text.encode import encode_label, load_tokenizer


def test_every_experiment_has_arms_of_their_own_name() -> None:
    assert set(ARMS) == set(get_args(Experiment))
    for arms in ARMS.values():
        assert len({arm.name for arm in arms}) == len(arms) >= 3
    assert [arm.patch_weight for arm in ARMS["beta"]] == [0, 0.5, 1, 2.5, 5, 5]


def values(align: float, meteor: float, without_word: float = 0.1) -> dict[str, Any]:
    row = {"align": align, "without_word": without_word, "cosine": 0.5, "delta_h": 1.0}
    row |= {"caption_loss": 0.7, "METEOR": meteor, "ROUGE_L": 0.4, "CIDEr": 0.5}
    row |= {f"{kind}_{k}": 0.1 * k for kind in ("precision", "recall") for k in range(1, 6)}
    return summarise([row, row])


FOUND = {
    "random": values(0.05, 0.1, 0.9),
    "captions alone": values(0.17, 0.21),
    "patch-aligned": values(0.28, 0.20),
}


def test_failures_are_named_and_an_untrained_projector_is_no_candidate() -> None:
    assert failure_signatures(ARMS["pursuit"], FOUND) == {
        "random": ["Align below 0.15", "more than half of the labelled patches without a word"],
        "patch-aligned": ["METEOR below the baseline"],
    }
    better = FOUND | {"patch-aligned": values(0.28, 0.22), "random": values(0.2, 0)}
    assert failure_signatures(ARMS["pursuit"], better) == {}


def test_the_report_is_one_file_that_needs_nothing_else(tmp_path: Path) -> None:
    results = {
        "experiment": "pursuit",
        **{"num_scenes": 10, "num_held_out": 5, "num_steps": 2, "seeds": [0, 1]},
        "arms": FOUND,
        "signatures": {"random": ["<Align> below"]},
    }
    write_report(results, tmp_path / "report.html")
    page = (tmp_path / "report.html").read_text()
    assert page.count("data:image/png;base64,") == 2
    assert re.findall(r"(?:src|href)='(?!data:)", page) == []
    assert "<td>0.280<small>0.280 – 0.280</small></td>" in page
    assert "<td>patch-aligned</td><td>ΔH</td><td>3.835</td><td>1.000</td>" in page
    assert "&lt;Align&gt; below" in page


def test_a_small_experiment_runs_to_its_report(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    tiny = replace(QUICK, num_scenes=8, num_held_out=4, num_steps=2, batch=4)
    monkeypatch.setattr(experiments, "QUICK", tiny)
    monkeypatch.setattr(experiments.shutil, "which", lambda name: None)  # as without Java
    lines = run_experiment("patch-only", str(tmp_path / "out"), quick=True)
    found = json.loads((tmp_path / "out/results.json").read_text())
    assert list(found["arms"]) == [arm.name for arm in ARMS["patch-only"]]
    cosine = {name: each["cosine"]["mean"] for name, each in found["arms"].items()}
    assert cosine["captions alone"] < cosine["patch-aligned"]
    assert cosine["captions alone"] < cosine["patch loss alone"]
    assert cosine["patch-aligned"] != cosine["patch loss alone"]
    assert "there was no Java runtime" in (tmp_path / "out/report.html").read_text()
    assert lines[-1].endswith("results.json and report.html")
    (tmp_path / "file").touch()
    with pytest.raises(UserError, match="should be a folder to write to, but it is a file"):
        run_experiment("beta", str(tmp_path / "file"))


def test_captions_of_a_projector_are_scored(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    tiny = replace(QUICK, num_scenes=2, num_held_out=3, num_steps=1, batch=2)
    monkeypatch.setattr(experiments, "QUICK", tiny)
    monkeypatch.setattr(experiments.shutil, "which", lambda name: f"/usr/bin/{name}")
    monkeypatch.setitem(ARMS, "beta", (Arm(name="random", is_trained=False),))
    seen: dict[str, Any] = {}

    def score(texts: list[str], truth: list[list[str]]) -> Any:
        seen.update(texts=texts, truth=truth)
        raise UserError("enough")

    monkeypatch.setattr(experiments, "score_captions", score)
    with pytest.raises(UserError, match="enough"):
        run_experiment("beta", str(tmp_path), quick=True)
    assert len(seen["texts"]) == len(seen["truth"]) == 3
    bench = Bench(tiny)
    assert seen["texts"] == bench.caption(bench.train_arm(ARMS["beta"][0], 0))
    assert seen["truth"] == [[bench.captions[each.id]] for each in bench.held_out]
    assert any(seen["texts"])
    assert all(re.search(r"\w+ \w+", several[0]) for several in seen["truth"])


def test_two_language_models_have_tokenizers_of_different_kinds(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    arms = ARMS["llms"]
    assert {(arm.kind, arm.tokenizer) for arm in arms} == {
        *product(("linear", "mlp", "c-abstractor"), ("sentencepiece", "byte-level"))
    }
    tiny = replace(QUICK, num_scenes=8, num_held_out=4, num_steps=2, batch=4)
    monkeypatch.setattr(experiments, "QUICK", tiny)
    monkeypatch.setattr(experiments.shutil, "which", lambda name: None)  # as without Java
    shown = tuple(arm for arm in arms if arm.kind == "linear")
    monkeypatch.setitem(ARMS, "llms", shown)
    seen = []
    real = experiments.byte_level_llm

    def learn(texts: list[str]) -> tuple[dict[str, bytes], float]:
        found = [real(texts, num_steps=steps) for steps in (5, 20)]
        seen.extend(loss for _, loss in found)
        return found[-1]

    monkeypatch.setattr(experiments, "byte_level_llm", learn)
    run_experiment("llms", str(tmp_path / "out"), quick=True)
    assert seen[1] < seen[0] - 0.5, "the language model should learn the captions"
    found = json.loads((tmp_path / "out/results.json").read_text())["arms"]
    assert list(found) == [arm.name for arm in shown]
    for kind in ("sentencepiece", "byte-level"):
        baseline, aligned = (
            found[f"linear, {kind}, {name}"]["cosine"]["mean"]
            for name in ("captions alone", "patch-aligned")
        )
        assert baseline < aligned


def test_the_second_tokenizer_has_other_pieces() -> None:
    ours = load_tokenizer(locate("embedded", "language"))
    theirs = learn_tokenizer(["a red car and two green trees", "a red snail"] * 4)
    assert ours.convert_ids_to_tokens(encode_label(ours, "car"))[0].startswith("▁")
    assert theirs.convert_ids_to_tokens(encode_label(theirs, "car"))[0].startswith("Ġ")
    assert theirs.decode(theirs("a snail: naïve ☃\n").input_ids[1:]) == "a snail: naïve ☃\n"
