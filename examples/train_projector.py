"""Train a projector with the patch loss in this process, without Ray.

    python examples/train_projector.py demo/annotations runs/example

The same command again resumes from the last checkpoint. For several GPUs or machines there is
`pad-pipeline train pretrain`, which runs the same loop on Ray Train.
"""

import sys
from dataclasses import replace

from pad_pipeline.train.distributed import OneWorker
from pad_pipeline.train.loop import train
from pad_pipeline.train.run.config import PRESETS
from pad_pipeline.train.run.folder import open_run


def main(annotations: str, output: str) -> None:
    # The small tower and language model that ship with the package; "paper" is LLaVA-1.5's recipe.
    config = replace(PRESETS["pretrain"]["demo"](), epochs=4, num_validation=4, loggers=())
    run = open_run(output, "pretrain", config, annotations, images=None, projector=None)

    def show(step: int, num_steps: int, values: dict[str, float]) -> None:
        losses = f"caption loss {values['caption_loss']:.3f}, patch loss {values['patch_loss']:.3f}"
        print(f"step {step} of {num_steps}: {losses}, cosine {values['cosine']:.3f}")

    train(run, config, OneWorker(), show)
    print(f"wrote {output}/mm_projector.safetensors")


if __name__ == "__main__":
    main(*sys.argv[1:])
