"""Train the embedded VQ model: `python -m tools.vq --output DIR`.

It leaves a model directory in OUTPUT/model, its PSNR on unseen scenes in OUTPUT/facts.json and a
picture of some of them in OUTPUT/reconstruction.png, and continues from its last checkpoint when it
is run again.
"""

from __future__ import annotations

from tools.annotators import data
from tools.command import begin, make_parser, shortened
from tools.vq.train_vq import SCHEDULE, train_vq


def main() -> None:
    """Read the command line and train."""
    parser = make_parser("tools.vq", __doc__, num_scenes=2_000)
    arguments = parser.parse_args()
    scenes = begin(arguments)
    pack = data.open_pack(scenes / "train", arguments.num_scenes, workers=arguments.threads)
    held_out = data.open_pack(scenes / "monitor", 40, data.MONITOR_SEED)
    plan = shortened(SCHEDULE, arguments.steps)
    train_vq(
        pack,
        held_out,
        arguments.output,
        schedule=plan,
        seed=arguments.seed,
        max_minutes=arguments.minutes,
    )


if __name__ == "__main__":
    main()
