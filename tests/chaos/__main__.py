"""Kill parts of running annotations, start them again, and compare what comes out.

    python -m tests.chaos --kills 100 --seed 1
    python -m tests.chaos --chosen --fake-models
    python -m tests.chaos --crash-inputs

The same seed gives the same kinds of kills and the same waits in the same order; what exactly is
hit then depends on how fast the machine is. The exit code is 0 when every image is there exactly
once, the shards are those of an uninterrupted run and nothing else is left, and 1 otherwise.
"""

from __future__ import annotations

import argparse
import json
import os
import signal
import sys
import tempfile
import time
from collections.abc import Callable
from itertools import islice
from pathlib import Path

from tests.chaos import processes
from tests.chaos.command import environment_of_tests

FAKE_PAUSE_S = 0.1
"""Of each stage over each image, so that there is time to kill something."""


def main() -> int:
    """The exit code."""
    parser = argparse.ArgumentParser(
        prog="python -m tests.chaos",
        description=__doc__,
        formatter_class=argparse.RawDescriptionHelpFormatter,
    )
    parser.add_argument("--kills", type=int, default=10, help="SIGKILLs to be done (10)")
    parser.add_argument("--seed", type=int, default=0, help="of kinds, waits and scenes (0)")
    parser.add_argument("--scenes", type=int, default=96, help="images of a data set (96)")
    parser.add_argument("--layout", choices=["pools", "fused"], default="pools")
    parser.add_argument(
        "--where",
        choices=["both", "cluster", "local"],
        default="both",
        help="a cluster of three nodes, a Ray that the command starts itself, or both by turns",
    )
    parser.add_argument(
        "--one-reference", action="store_true", help="the same scenes for all data sets"
    )
    parser.add_argument(
        "--minutes", type=float, default=1e6, help="no more kills after this time (no limit)"
    )
    parser.add_argument(
        "--chosen",
        action="store_true",
        help="one kill of each kind at the moment that does most harm, in place of drawn ones",
    )
    parser.add_argument(
        "--fake-models", action="store_true", help="tests/fake_command.py as the command: quicker"
    )
    parser.add_argument(
        "--crash-inputs", action="store_true", help="images that end their worker, and no kills"
    )
    parser.add_argument("--json", type=Path, help="file for the result")
    parser.add_argument("--quiet", action="store_true", help="only the result")
    args = parser.parse_args()
    processes.adopt_orphans()
    # what was started is ended also where a time limit ends this program
    signal.signal(signal.SIGTERM, lambda *_: sys.exit(2))
    start_s = time.monotonic()

    def log(text: str) -> None:
        if not args.quiet:
            print(f"{time.monotonic() - start_s:6.1f} {text}", flush=True)  # noqa: T201

    # Paths of sockets must be short.
    with tempfile.TemporaryDirectory(
        prefix="pad-", dir="/tmp", ignore_cleanup_errors=True
    ) as place:
        os.environ.update(environment_of_tests(Path(place)))
        try:
            values = (
                _crash_inputs(Path(place), log)
                if args.crash_inputs
                else _kills(args, Path(place), log)
            )
        finally:
            processes.end_all()
    if args.json:
        args.json.write_text(json.dumps(values, indent=1, ensure_ascii=False) + "\n")
    for name, value in values.items():
        if name not in ("each", "stderr", "stdout_of_ray", "errors_after_loss_of_own_raylet"):
            print(f"{name}: {value}")  # noqa: T201
    return 0 if values["right"] else 1


def _kills(args: argparse.Namespace, place: Path, log: Callable[[str], None]) -> dict:
    from tests.chaos.campaign import Campaign, Stuck
    from tests.chaos.kills import chosen, draw

    if args.fake_models:
        os.environ["FAKE_PAUSE_S"] = str(FAKE_PAUSE_S)
    campaign = Campaign(
        place,
        kills=chosen(args.layout)
        if args.chosen
        else list(islice(draw(args.seed, args.layout), args.kills)),
        module="tests.fake_command" if args.fake_models else "pad_pipeline",
        seed=args.seed,
        num_scenes=args.scenes,
        layout=args.layout,
        where=args.where,
        one_reference=args.one_reference,
        minutes=args.minutes,
        log=log,
    )
    try:
        return campaign.run().to_dict()
    except Stuck as error:
        return {**campaign.result.to_dict(), "right": False, "stuck": str(error)}


def _crash_inputs(place: Path, log: Callable[[str], None]) -> dict:
    from tests.chaos.crash_inputs import run_crash_inputs

    return run_crash_inputs(place, log)


if __name__ == "__main__":
    raise SystemExit(main())
