"""The benchmark of a GPU: its sections run on a CPU, end in time, and say what they have not."""

from __future__ import annotations

import json
import operator
import sys
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import common
import gpu
import numpy as np
import pytest
import torch
from gpu_sections import bars, needs, runner, workload
from gpu_sections.bench import Bench, NotThere, attempt
from gpu_sections.chain import CASES, Case, configure
from gpu_sections.plan import SECTIONS, Section


@pytest.fixture(scope="module")
def bench(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Bench]:
    threads = torch.get_num_threads()
    torch.set_num_threads(1)
    models = tmp_path_factory.mktemp("models")
    place = Bench(device="cpu", dtype="float32", tiny=True, seconds=0.001, threads=1, models=models)
    written = ("segmenter-fast", "detector-sam3")  # the others are embedded
    for name, write in by_name("weights").rows(place):
        if name in written:
            write()
    yield place
    torch.set_num_threads(threads)


def by_name(name: str) -> Section:
    return next(section for section in SECTIONS if section.name == name)


UNCOMPILED = [section.name for section in SECTIONS if "compile" not in section.name]
FEW_ROWS = {
    "chain": 4,
    "detector": 3,
    "encoder": 3,
    "peers": 2,
    "profile": 2,
    "sam3": 3,
    "stages": 4,
}
"""Rows of the slow sections that run here; those after them differ in their settings alone."""


@pytest.mark.parametrize("name", UNCOMPILED)
def test_rows_have_figures_or_say_what_is_missing(bench: Bench, name: str) -> None:
    rows = list(by_name(name).rows(bench))
    assert len({row for row, _ in rows}) == len(rows) >= 2
    done = [attempt(row, work) for row, work in rows[: FEW_ROWS.get(name)]]
    assert [row for row in done if "error" in row] == []
    assert all(len(row) >= 2 for row in done)


def test_every_case_of_the_chain_is_a_config(bench: Bench) -> None:
    for case in CASES:
        config = configure(bench, case)
        assert config.device == "cpu"
        for path, value in case.changes:
            if path != "chunk_size":
                assert operator.attrgetter(path)(config) == value
    with pytest.raises(NotThere, match="DetectConfig has no field speed"):
        configure(bench, Case("web", changes=(("detect.speed", 2),)))


def test_the_command_writes_lines_results_and_the_table(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capfd: pytest.CaptureFixture[str]
) -> None:
    output = tmp_path / "new" / "gpu.json"
    options = ["--tiny", "--sections", "matrix", "--output", str(output)]
    monkeypatch.setattr(sys, "argv", ["gpu.py", *options])
    monkeypatch.setattr(common, "busy_share", lambda: 0.0)
    gpu.main()
    rows = runner.read(output.with_suffix(".jsonl"))
    assert {row["section"] for row in rows} == {"matrix"}
    assert rows[0]["tflops"] > 0
    assert all("took_s" in row for row in rows)
    result = json.loads(output.read_text())
    assert result["rows"] == list(rows)
    assert {row["verdict"] for row in result["bars"]} == {"not measured"}
    assert result["machine"]["versions"]["torch"]
    last = capfd.readouterr().out
    assert "SAM, lin1, fp8: not there: fp8 products need a GPU" in last


def test_models_are_written_where_a_section_loads_them() -> None:
    assert gpu.with_what_they_need(["machine", "matrix"]) == ["machine", "matrix"]
    assert gpu.with_what_they_need(["chain"]) == ["weights", "chain"]
    assert gpu.with_what_they_need(["compile-again"]) == ["weights", "compile-again"]
    assert gpu.with_what_they_need(["weights", "peers"]) == ["weights", "peers"]


def test_figures_of_a_dry_run_do_not_take_the_place_of_results(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    monkeypatch.setattr(sys, "argv", ["gpu.py", "--tiny"])
    with pytest.raises(SystemExit):
        gpu.parse()
    assert "name another file than the results" in capsys.readouterr().err
    monkeypatch.setattr(sys, "argv", ["gpu.py"])
    monkeypatch.setenv("OUT", str(tmp_path))
    assert gpu.parse().output == tmp_path / "gpu.json"


def test_the_limits_are_eight_minutes_and_the_chain_is_among_the_first() -> None:
    assert sum(section.limit_s for section in SECTIONS) == 480
    names = [section.name for section in SECTIONS]
    assert names.index("chain") <= 2
    assert len(set(names)) == len(names)


def test_a_section_that_is_too_slow_is_killed_and_its_rows_stay(tmp_path: Path) -> None:
    lines = tmp_path / "rows.jsonl"
    script = (
        "import sys, time; from pathlib import Path; from gpu_sections.runner import append\n"
        f"append(Path({str(lines)!r}), {{'section': sys.argv[-1], 'row': 'first'}})\n"
        "time.sleep(0 if sys.argv[-1] == 'quick' else 600)\n"
        "sys.exit(7)"
    )
    path = [entry for entry in sys.path if entry.endswith("benchmarks")][:1]
    command = [sys.executable, "-c", f"import sys; sys.path[:0] = {path}\n{script}"]
    sections = [
        Section("quick", 30, ""),
        Section("slow", 0.1, ""),
        Section("late", 10, ""),
    ]
    runner.run_apart(sections[:1], command, lines, budget_s=30)
    runner.run_apart(sections[1:2], command, lines, budget_s=8)
    runner.run_apart(sections[2:], command, lines, budget_s=1)
    rows = runner.read(lines)
    assert rows[0] == {"section": "quick", "row": "first"}
    assert rows[1] == {"section": "quick", "exit_code": 7}
    assert rows[-2]["section"] == "slow"
    assert rows[-2]["stopped_after_s"] == pytest.approx(0.1, abs=0.05)
    assert rows[-1] == {"section": "late", "not_run": "no time was left for it"}


def test_an_unfinished_line_is_no_row(tmp_path: Path) -> None:
    lines = tmp_path / "rows.jsonl"
    runner.append(lines, {"section": "chain", "row": "web"})
    with lines.open("a") as file:
        file.write('{"section": "cha')
    assert runner.read(lines) == ({"section": "chain", "row": "web"},)
    assert runner.read(tmp_path / "nothing") == ()


def test_a_row_that_fails_says_why_and_a_lever_that_is_not_there_is_none() -> None:
    def fail() -> dict[str, Any]:
        raise ValueError("wrong shape")

    def miss() -> dict[str, Any]:
        raise NotThere("SegmentConfig has no field quantize")

    failed = attempt("a", fail)
    assert failed["error"] == "ValueError: wrong shape"
    assert "in fail" in failed["traceback"]
    missing = attempt("b", miss)
    assert missing == {"row": "b", "not_there": "SegmentConfig has no field quantize"}


def chain(name: str, rate: float, **more: Any) -> dict[str, Any]:
    return {"section": "chain", "row": name, "images_per_s": rate, "warnings": [], **more}


def test_bars_are_judged_by_what_was_measured() -> None:
    rows = [
        chain("uniform", 51),
        chain("web", 31),
        chain("web, preset fast", 20),
        chain("web, within 22 GiB", 29, peak_reserved_gib=19.5),
        {"section": "sam3", "row": "uniform, preset sam3, 10 tags", "images_per_s": 16},
        {"section": "peers", "row": "public script, float32, web", "images_per_s": 3},
        {"section": "launches", "row": "detector", "launches": 701},
        {"section": "training", "row": "padded", "share_of_matrix_rate": 0.6},
        {"section": "training", "row": "packed", "share_of_matrix_rate": 0.44},
        {"section": "training", "row": "packed, no patch loss", "share_of_matrix_rate": 0.7},
    ]
    found = {row["what"]: (row["measured"], row["verdict"]) for row in bars.judge(rows)}
    assert list(found.values()) == [
        (51, "goal reached"),
        (31, "least reached"),
        (None, "not measured"),
        (20, "missed"),
        (16, "least reached"),
        (10.33, "least reached"),
        (701, "missed"),
        (None, "not measured"),
        (0.44, "least reached"),
        (19.5, "goal reached"),
    ]
    assert {row["verdict"] for row in bars.judge(rows, dry_run=True)} == {
        "dry run",
        "not measured",
    }


def test_memory_that_ran_out_is_no_fit() -> None:
    ran_out = "detect: out of memory with a batch of 16 images, trying halves"
    rows = [chain("web, within 22 GiB", 29, peak_reserved_gib=21.0) | {"warnings": [ran_out]}]
    assert bars.judge(rows)[-1]["verdict"] == "missed"


def test_the_last_lines_say_what_was_not_measured() -> None:
    rows = [
        {"section": "chain", "row": "web", "not_there": "AnnotateConfig has no field in_flight"},
        {"section": "peers", "stopped_after_s": 45.0},
    ]
    text = bars.as_text(bars.judge(rows), rows)
    assert "chain: web: not there: AnnotateConfig has no field in_flight" in text
    assert "peers: stopped at its limit of seconds: 45.0" in text
    assert text.count("not measured") == len(bars.BARS)


def test_images_and_tags_are_the_same_every_time_and_each_image_has_its_own() -> None:
    assert workload.sizes("uniform", 3) == [(480, 640)] * 3
    assert len({*workload.sizes("web", 192)}) > 150
    assert workload.sizes("web", 193)[192] == workload.sizes("web", 1)[0]
    assert "assumed" in workload.source_of("web")
    images = [np.full((64, 64, 3), value, np.uint8) for value in range(20)]
    tags = [workload.own_tags(image) for image in images]
    assert tags == [workload.own_tags(image) for image in images]
    assert {len(each) for each in tags} <= set(range(5, 16))
    assert len({tuple(each) for each in tags}) == 20
    assert len(workload.tag_list()) == 4585


def test_what_is_missing_is_one_sentence(monkeypatch: pytest.MonkeyPatch) -> None:
    assert needs.missing(tiny=True) == ""
    monkeypatch.setitem(needs.AT_LEAST, "transformers", "99")
    monkeypatch.setitem(needs.AT_LEAST, "no-such-package", "1")
    sentence = needs.missing(tiny=True)
    assert sentence.startswith("it lacks transformers>=99, no-such-package>=1; ")
    assert "pip download" in sentence
