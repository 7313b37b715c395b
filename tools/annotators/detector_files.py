"""The embedded detector's vocabulary, and its directory in transformers' layout."""

from __future__ import annotations

import json
import string
from pathlib import Path

from transformers import BertTokenizer, GroundingDinoForObjectDetection

from pad_pipeline.normalisation import IMAGENET_MEAN, IMAGENET_STD
from pad_pipeline.scenes.generator import KINDS

_FIXED = {0: "[PAD]", 100: "[UNK]", 101: "[CLS]", 102: "[SEP]", 103: "[MASK]", 1012: ".", 1029: "?"}
"""transformers' Grounding DINO knows these ids by number: they are BERT's own."""


def _vocabulary() -> list[str]:
    words = sorted({word for kind in KINDS for word in kind.split()})
    letters = string.ascii_lowercase + string.digits
    marks = [mark for mark in string.punctuation if mark not in ".?"]
    # Letters let any other word through in pieces: the model then knows nothing of it, but works.
    rest = [*marks, *letters, *("##" + letter for letter in letters), *words]
    return [_FIXED.get(i, f"[unused{i}]") for i in range(max(_FIXED) + 1)] + rest


VOCABULARY: list[str] = _vocabulary()
TOKENS_OF: dict[str, list[int]] = {
    kind: [VOCABULARY.index(word) for word in kind.split()] for kind in KINDS
}


def save_detector(
    model: GroundingDinoForObjectDetection, directory: Path, short_side: int, long_side: int
) -> None:
    """The model as a self-contained directory with weights in fp16; `model` stays as it is."""
    directory.mkdir(parents=True, exist_ok=True)
    half = GroundingDinoForObjectDetection(model.config)
    half.load_state_dict(model.state_dict())
    half.half().save_pretrained(directory)
    vocabulary = directory / "vocab.txt"
    vocabulary.write_text("\n".join(VOCABULARY) + "\n", encoding="utf-8")
    vocab = {token: i for i, token in enumerate(VOCABULARY)}
    tokenizer = BertTokenizer(vocab=vocab, model_max_length=256)
    tokenizer.save_pretrained(directory)
    processor = {
        "image_processor_type": "GroundingDinoImageProcessor",
        "processor_class": "GroundingDinoProcessor",
        "format": "coco_detection",
        "do_normalize": True,
        "do_pad": True,
        "do_rescale": True,
        "do_resize": True,
        "image_mean": list(IMAGENET_MEAN),
        "image_std": list(IMAGENET_STD),
        "resample": 2,
        "rescale_factor": 1 / 255,
        "size": {"shortest_edge": short_side, "longest_edge": long_side},
    }
    text = json.dumps(processor, indent=1) + "\n"
    (directory / "preprocessor_config.json").write_text(text, encoding="utf-8")
