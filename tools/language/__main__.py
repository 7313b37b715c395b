"""Train the embedded vision tower and language model: `python -m tools.language`.

    python -m tools.language tokenizer --output runs/language
    python -m tools.language vision --output runs/language
    python -m tools.language language --output runs/language

The tokenizer comes first; the two models need it, and not each other. Each leaves a model
directory in OUTPUT/NAME/model, and continues from its last checkpoint when it is run again. The
numbers of steps and the seed are fixed: one thread gives the same weights again on the same
machine.
"""

from __future__ import annotations

from tools.command import begin, make_parser, shortened


def main() -> None:
    """Read the command line and train."""
    parser = make_parser("tools.language", __doc__, num_scenes=12_000)
    parser.add_argument("part", choices=("tokenizer", "vision", "language"))
    arguments = parser.parse_args()
    scenes = begin(arguments)
    pieces = arguments.output / "tokenizer"
    if arguments.part == "tokenizer":
        from tools.language.tokenizer import learn_pieces, save_tokenizer

        save_tokenizer(pieces, *learn_pieces(seed=arguments.seed))
        return
    if not (pieces / "tokenizer.json").is_file():
        parser.error(f"{pieces} holds no tokenizer: run the part `tokenizer` first")
    from transformers import AutoTokenizer

    tokenizer = AutoTokenizer.from_pretrained(pieces)
    output = arguments.output / arguments.part
    common = {"seed": arguments.seed, "max_minutes": arguments.minutes}
    if arguments.part == "language":
        from tools.language import train_language

        plan = shortened(train_language.SCHEDULE, arguments.steps)
        train_language.train_language(tokenizer, output, schedule=plan, **common)
    else:
        from tools.annotators.data import MONITOR_SEED
        from tools.language import train_vision
        from tools.language.frames import open_frames

        plan = shortened(train_vision.SCHEDULE, arguments.steps)
        train = open_frames(scenes / "train", arguments.num_scenes, workers=arguments.threads)
        held_out = open_frames(scenes / "monitor", 192, MONITOR_SEED)
        train_vision.train_vision(train, held_out, tokenizer, output, schedule=plan, **common)


if __name__ == "__main__":
    main()
