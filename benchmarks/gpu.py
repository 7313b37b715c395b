"""What this project does on one GPU, what its peers do beside it, and which bars that passes.

`python benchmarks/gpu.py --output FILE.json` needs a CUDA GPU, no network and no Ray, and takes at
most eight minutes. Each section is a process of its own with a time limit; `FILE.jsonl` gets a line
after every row, the last table and `FILE.json` say which bars are passed. Without `--output` the
files go to the folder that the variable OUT names, else to benchmarks/results. `--sections` runs
some of them, `--tiny` all on a CPU with the embedded models, to see that everything works.
"""

from __future__ import annotations

import argparse
import os
import sys
import tempfile
from dataclasses import replace
from pathlib import Path

import common
from gpu_sections import bars, needs
from gpu_sections.plan import BY_NAME, SECTIONS
from gpu_sections.runner import read, run_apart, run_here, this_command

BUDGET_S = 480.0
TINY_SLOWER = 10
"""How many times longer sections may take with `--tiny`, where nothing is measured."""


def main() -> None:
    """Run the sections, or the one that is asked for, and write the table."""
    arguments = parse()
    if arguments.section:
        work(arguments)
        return
    missing = needs.missing(tiny=arguments.tiny)
    if missing:
        sys.exit(f"this benchmark cannot run here: {missing}")
    output: Path = arguments.output
    output.parent.mkdir(parents=True, exist_ok=True)
    lines = output.with_suffix(".jsonl")
    lines.unlink(missing_ok=True)
    machine = common.describe_machine()
    names = with_what_they_need(arguments.sections or [section.name for section in SECTIONS])
    slower = TINY_SLOWER if arguments.tiny else 1
    sections = [replace(BY_NAME[name], limit_s=slower * BY_NAME[name].limit_s) for name in names]
    with tempfile.TemporaryDirectory() as temporary:
        models = arguments.models or Path(temporary) / "models"
        options = ["--output", str(output), "--models", str(models)]
        command = this_command(__file__, [*sys.argv[1:], *options])
        run_apart(sections, command, lines, slower * arguments.budget)
    rows = read(lines)
    table = bars.judge(rows, dry_run=arguments.tiny)
    common.write_result(
        output,
        machine,
        {
            "what": "embedded models" if arguments.tiny else "released sizes, random weights",
            "bars": table,
            "rows": rows,
        },
        quiet=True,
    )
    common.say(bars.as_text(table, rows))


def with_what_they_need(names: list[str]) -> list[str]:
    """The sections, after the one that writes the models where any of them loads models."""
    if "weights" in names or not any(BY_NAME[name].loads_models for name in names):
        return names
    return ["weights", *names]


def parse() -> argparse.Namespace:
    """The command line."""
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument("--output", type=Path, help="the .json file; a .jsonl lies beside it")
    parser.add_argument("--tiny", action="store_true", help="embedded models on the CPU")
    parser.add_argument("--seconds", type=float, help="least time of a rate (default 5)")
    parser.add_argument("--budget", type=float, default=BUDGET_S, help="seconds for everything")
    parser.add_argument("--threads", type=int, default=8, help="threads that decode")
    parser.add_argument("--models", type=Path, help="folder in which the models stay")
    parser.add_argument("--sections", nargs="+", choices=BY_NAME, metavar="NAME")
    parser.add_argument("--section", choices=BY_NAME, help=argparse.SUPPRESS)
    arguments = parser.parse_args()
    if arguments.output is None:
        if arguments.tiny:
            parser.error("--tiny measures nothing: name another file than the results by --output")
        arguments.output = Path(os.environ.get("OUT", common.RESULTS)) / "gpu.json"
    if arguments.seconds is None:
        arguments.seconds = 0.05 if arguments.tiny else 5.0
    return arguments


def work(arguments: argparse.Namespace) -> None:
    """One section, in this process."""
    from gpu_sections.bench import Bench

    lines = arguments.output.with_suffix(".jsonl")
    place = {"device": "cpu", "dtype": "float32"} if arguments.tiny else {}
    bench = Bench(
        tiny=arguments.tiny,
        seconds=arguments.seconds,
        threads=arguments.threads,
        models=arguments.models,
        found=read(lines),
        **place,
    )
    run_here(BY_NAME[arguments.section], bench, lines, common.say)


if __name__ == "__main__":
    main()
