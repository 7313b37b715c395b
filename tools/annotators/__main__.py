"""Train an embedded model: `python -m tools.annotators MODEL --output DIR`.

The shipped weights come from these commands, the first two side by side (26, 65 and 23 minutes of
about one core):

    python -m tools.annotators tagger --output runs/tagger --scenes runs/scenes
    python -m tools.annotators segmenter --output runs/segmenter --scenes runs/scenes
    python -m tools.annotators detector --output runs/detector --scenes runs/scenes \\
        --backbone runs/tagger/model

Each leaves a model directory in OUTPUT/model, and continues from its last checkpoint when it is
run again. The numbers of steps and the seed are fixed, so that the same machine and number of
threads give the same weights again, and others equally good ones;
`pad_pipeline/scenes/weights/README.md` says in what the shipped runs differed.
"""

from __future__ import annotations

import logging
from pathlib import Path

from tools.annotators import data
from tools.command import begin, make_parser, shortened


def main() -> None:
    """Read the command line and train."""
    parser = make_parser("tools.annotators", __doc__, num_scenes=20_000, threads=2)
    parser.add_argument("model", choices=("tagger", "detector", "segmenter"))
    parser.add_argument(
        "--backbone", type=Path, help="a trained tagger's directory, for the detector"
    )
    arguments = parser.parse_args()
    scenes = begin(arguments)
    if arguments.model == "detector" and arguments.backbone is None:
        logging.warning(
            "without --backbone the detector learns to see first: plan for 3x the steps"
        )
    pack = data.open_pack(scenes / "train", arguments.num_scenes, workers=arguments.threads)
    held_out = data.open_pack(scenes / "monitor", 200, data.MONITOR_SEED)
    common = {"seed": arguments.seed, "max_minutes": arguments.minutes}
    if arguments.model == "tagger":
        from tools.annotators import train_tagger as module

        run, extra = module.train_tagger, {}
    elif arguments.model == "detector":
        from tools.annotators import train_detector as module

        run, extra = module.train_detector, {"backbone": module.read_backbone(arguments.backbone)}
    else:
        from tools.annotators import train_segmenter as module

        run, extra = module.train_segmenter, {}
    plan = shortened(module.SCHEDULE, arguments.steps)
    run(pack, held_out, arguments.output, schedule=plan, **extra, **common)


if __name__ == "__main__":
    main()
