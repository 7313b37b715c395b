"""What is made of lmms-eval's results, by a program that stands in its place."""

from __future__ import annotations

import json
import stat
import sys
from pathlib import Path

import pytest

from pad_pipeline.errors import UserError
from pad_pipeline.evaluate.harness import VERSION, run_harness

RESULTS = {
    "results": {
        "scene_words": {"alias": "scene_words", "exact,none": 0.25, "exact_stderr,none": "N/A"},
        "mme": {
            "alias": "mme",
            "mme_cognition_score,none": 316.5,
            "mme_perception_score,none": 1510.0,
        },
        "mmvet": {"alias": "mmvet", "gpt_eval_score,none": "N/A"},
    }
}

STAND_IN = """#!{python}
import json, pathlib, sys
if sys.argv[1] == "-c":
    print({version!r})
    sys.exit()
assert sys.argv[1:3] == ["-m", "lmms_eval"]
options = dict(zip(sys.argv[3::2], sys.argv[4::2]))
print("loading", options["--model_args"])
if "broken" in options["--tasks"]:
    print("no such task")
    sys.exit(1)
path = pathlib.Path(sys.argv[sys.argv.index("--output_path") + 1], "model/1_results.json")
path.parent.mkdir(parents=True)
path.write_text({results!r})
"""


def stand_in(folder: Path, version: str = VERSION) -> str:
    path = folder / "python"
    results = json.dumps(RESULTS)
    path.write_text(STAND_IN.format(python=sys.executable, version=version, results=results))
    path.chmod(path.stat().st_mode | stat.S_IXUSR)
    return str(path)


@pytest.fixture
def export(tmp_path: Path) -> str:
    (tmp_path / "export").mkdir()
    (tmp_path / "export/config.json").write_text("{}")
    return str(tmp_path / "export")


def test_figures_are_kept_and_what_needs_a_judge_is_not_measured(
    export: str, tmp_path: Path
) -> None:
    tasks = ["scene_words", "mme", "mmvet"]
    report = run_harness(
        export, tasks, str(tmp_path / "out"), python=stand_in(tmp_path), device="cpu", batch_size=2
    )
    found = json.loads((tmp_path / "out/summary.json").read_text())
    assert found["metrics"] == {
        "scene_words": {"exact": 0.25},
        "mme": {"mme_cognition_score": 316.5, "mme_perception_score": 1510.0},
    }
    assert list(found["not_measured"]) == ["mmvet"]
    assert found["batch_size"] == 2
    assert any("not measured" in line for line in report.lines())
    log = (tmp_path / "out/lmms_eval/log.txt").read_text()
    assert f"pretrained={export},device=cpu,device_map=cpu,dtype=float32" in log


def test_what_is_missing_is_said_in_one_sentence(export: str, tmp_path: Path) -> None:
    out = str(tmp_path / "out")
    with pytest.raises(UserError, match=r"ended with code 1: no such task; see .*log\.txt"):
        run_harness(export, ["broken"], out, python=stand_in(tmp_path))
    with pytest.raises(UserError, match=rf"has lmms-eval 0\.1; install lmms-eval {VERSION}"):
        run_harness(export, ["mme"], out, python=stand_in(tmp_path, "0.1"))
    with pytest.raises(UserError, match=r"cannot be run \(No such file .* named with python"):
        run_harness(export, ["mme"], out, python=str(tmp_path / "nowhere"))
    with pytest.raises(UserError, match="has no lmms-eval"):
        run_harness(export, ["mme"], out, python=stand_in(tmp_path, ""))
    with pytest.raises(UserError, match=r"A C-Abstractor cannot go through lmms-eval"):
        run_harness(str(tmp_path), ["mme"], out, python=stand_in(tmp_path))
