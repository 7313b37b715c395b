"""Train the embedded autoencoder and denoising transformer: `python -m tools.denoiser`.

    python -m tools.denoiser autoencoder --output runs/denoiser
    python -m tools.denoiser transformer --output runs/denoiser

The autoencoder comes first. Each continues from its last checkpoint when it is run again; together
they leave a pipeline directory in diffusers' layout in OUTPUT/model. One thread and one seed give
the same weights again on the same machine.
"""

from __future__ import annotations

from tools.annotators.data import MONITOR_SEED
from tools.command import begin, make_parser, shortened
from tools.language.frames import open_frames


def main() -> None:
    """Read the command line and train."""
    parser = make_parser("tools.denoiser", __doc__, num_scenes=6_000)
    parser.add_argument("part", choices=("autoencoder", "transformer"))
    arguments = parser.parse_args()
    scenes = begin(arguments)
    train = open_frames(scenes / "train", arguments.num_scenes, workers=arguments.threads)
    held_out = open_frames(scenes / "monitor", 64, MONITOR_SEED)
    if arguments.part == "autoencoder":
        from tools.denoiser import train_autoencoder as module

        run = module.train_autoencoder
    else:
        from tools.denoiser import train_transformer as module

        run = module.train_transformer
    plan = shortened(module.SCHEDULE, arguments.steps)
    run(
        train,
        held_out,
        arguments.output,
        schedule=plan,
        seed=arguments.seed,
        max_minutes=arguments.minutes,
    )


if __name__ == "__main__":
    main()
