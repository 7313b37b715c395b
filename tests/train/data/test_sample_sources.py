"""Lists of conversations and captions in the forms that people have, and what is refused."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import pytest

from pad_pipeline.errors import Setting, UserError
from pad_pipeline.train.choices import TrainingStage
from pad_pipeline.train.data.left_out import LeftOutSamples
from pad_pipeline.train.data.sample_file import write_samples
from pad_pipeline.train.data.sample_sources import read_samples
from pad_pipeline.train.data.samples import TrainingSample

ASKED, ANSWER = "<image>\nWhat is it?", "A cat."
TURNS = [{"from": "user", "value": ASKED}, {"from": "assistant", "value": ANSWER}]


def talk(asked: str = ASKED, answer: Any = ANSWER, **others: Any) -> dict[str, Any]:
    turns = [{"from": "human", "value": asked}, {"from": "gpt", "value": answer}]
    return {"conversations": turns, **others}


def read(
    folder: Path, content: str | bytes, stage: TrainingStage = "finetune", name: str = "list.json"
) -> tuple[list[TrainingSample], LeftOutSamples]:
    path = folder / name
    path.write_bytes(content.encode() if isinstance(content, str) else content)
    (folder / "a.png").touch()
    left_out = LeftOutSamples()
    return list(read_samples(str(path), None, stage, left_out)), left_out


ENTRIES: dict[str, dict[str, Any]] = {
    "LLaVA": talk(image="a.png"),
    "a list of one image": talk(image=["a.png"]),
    "images": talk(images=["a.png"]),
    "backslashes": talk(image=".\\a.png"),
    "roles": {
        "image": "a.png",
        "conversations": [
            {"from": "User", "value": ASKED},
            {"from": "assistant", "value": ANSWER},
        ],
    },
    "OpenAI": {
        "images": ["a.png"],
        "messages": [
            {"role": "user", "content": ASKED},
            {"role": "assistant", "content": ANSWER},
        ],
    },
    "OpenAI's parts, with the image named twice": {
        "image": "a.png",
        "messages": [
            {
                "role": "user",
                "content": [
                    {"type": "image_url", "image_url": {"url": "a.png"}},
                    {"type": "text", "text": "\nWhat is it?"},
                ],
            },
            {"role": "assistant", "content": [{"type": "text", "text": ANSWER}]},
        ],
    },
    "The Cauldron": {
        "images": [{"bytes": None, "path": "a.png"}],
        "texts": [{"user": "What is it?", "assistant": ANSWER}],
    },
}


@pytest.mark.parametrize("form", ENTRIES)
def test_known_forms_are_the_same_sample(tmp_path: Path, form: str) -> None:
    ([sample], left_out) = read(tmp_path, json.dumps([ENTRIES[form]]))
    assert sample.turns == TURNS
    assert sample.image is not None
    assert sample.image.uri == str(tmp_path / "a.png")
    assert not left_out.counts
    ([caption], _) = read(tmp_path, json.dumps([ENTRIES[form]]), "pretrain")
    assert caption.caption == ANSWER
    assert caption.image == sample.image


@pytest.mark.parametrize(
    ("entry", "reason"),
    [
        (talk(), "with <image> and no image"),
        (
            talk("<video>\nWhat?", video="a.mp4"),
            "with a video or sound, which the model does not take",
        ),
        (talk(image=None), "with <image> and no image"),
        (talk(image=""), "with <image> and no image"),
        (talk(image=["a.png", "b.png"]), "with several images, where the model takes one"),
        (talk("What is it?", image="a.png"), "whose image no turn shows with <image>"),
        (talk(answer="See <image>.", image="a.png"), "with an image and <image> in an answer"),
        (
            {"conversations": [*TURNS, *TURNS], "image": "a.png"},
            "with <image> in several turns for one image",
        ),
        (
            talk(image="data:image/png;base64,AAAA"),
            "whose image stands in the entry itself and not in a file",
        ),
    ],
)
def test_what_would_be_trained_without_its_image_is_bad(
    tmp_path: Path, entry: dict[str, Any], reason: str
) -> None:
    entries = [entry | {"id": f"e{number}"} for number in range(4)]
    samples, left_out = read(tmp_path, json.dumps([*entries, talk(image="a.png")]))
    assert len(samples) == 1
    assert left_out.counts == {reason: 4}
    assert left_out.num_bad == 4
    assert left_out.lines() == [f"4 {reason} (e0, e1, e2, …)"]


def test_text_alone_may_write_of_images_in_an_answer(tmp_path: Path) -> None:
    ([sample], _) = read(tmp_path, json.dumps([talk("Which tag?", "The tag <image>.")]))
    assert sample.image is None


@pytest.mark.parametrize(
    ("entry", "message"),
    [
        ({"caption": "a cat", "image": "a.png"}, "entry 1: it holds 'caption', 'image'; expected"),
        ({"image": "a.png", "conversations": [{"from": "narrator", "value": "x"}]}, "'narrator'"),
        (talk() | {"conversations": [*TURNS[:1], *TURNS]}, "turn 2 is from the user like"),
        ({"conversations": []}, "entry 1: the conversation has no turns"),
        (["human", "hi"], "entry 1: it is .*expected an object"),
        (talk(image="a.png", answer="half \ud83d"), "entry 1: its text has half a surrogate"),
        (talk(image=7), "entry 1: its 'image' should name images as text"),
    ],
)
def test_entries_in_other_forms_are_named(tmp_path: Path, entry: Any, message: str) -> None:
    path = tmp_path / "list.json"
    path.write_text(json.dumps([entry]))
    (tmp_path / "a.png").touch()
    with pytest.raises(UserError, match=message):
        write_samples(str(path), None, "finetune", tmp_path / "samples", max_bad_share=0.05)


def test_bad_samples_are_refused_past_their_share(tmp_path: Path) -> None:
    entries = [talk(image="a.png")] * 19 + [talk(id="blind")]
    path = tmp_path / "list.json"
    path.write_text(json.dumps(entries))
    (tmp_path / "a.png").touch()
    number, left_out = write_samples(
        str(path), None, "finetune", tmp_path / "samples", max_bad_share=0.05
    )
    assert (number, left_out.num_bad) == (19, 1)
    with pytest.raises(
        UserError, match=r"1 of 20 samples \(5.0%\).*<image> and no image \(blind"
    ) as (found):
        write_samples(str(path), None, "finetune", tmp_path / "samples", max_bad_share=0.04)
    assert Setting("max_bad_share") in found.value.args


@pytest.mark.parametrize("name", ["list.json", "list.jsonl", "list.ndjson"])
@pytest.mark.parametrize("end", ["\n", "\r\n"])
@pytest.mark.parametrize("mark", ["", "\ufeff"])
def test_lines_are_read_by_content_whatever_the_name(
    tmp_path: Path, name: str, end: str, mark: str
) -> None:
    answers = ["a café \U0001f600", "日本語 ‏עברית‏"]
    lines = [json.dumps(talk(answer=a, image="a.png"), ensure_ascii=False) + end for a in answers]
    samples, left_out = read(tmp_path, mark + "".join(lines), name=name)
    assert [sample.turns[1]["value"] for sample in samples if sample.turns] == answers
    assert not left_out.counts


def test_captions_without_conversations_are_stage_one(tmp_path: Path) -> None:
    entries = [
        {"image": "a.png", "caption": "a cat"},
        {"file_name": "a.png", "text": "a black cat"},
        {"image": "a.png", "caption": ["one", "two"]},
        {"image": "a.png", "caption": "  "},
        {"image": "a.png", "caption": "the tag <image>"},
        {"caption": "no picture"},
    ]
    samples, left_out = read(tmp_path, json.dumps(entries), "pretrain")
    assert [sample.caption for sample in samples] == ["a cat", "a black cat", "one"]
    assert left_out.counts == {
        "without a caption": 1,
        "with <image> in the caption": 1,
        "without an image": 1,
    }
    assert left_out.num_bad == 1
