"""Questions and answers put between the turns of a conversation."""

from __future__ import annotations

from collections.abc import Sequence

from pad_pipeline.cognition.draws import Draws
from pad_pipeline.cognition.templates import IMAGE_WORDS
from pad_pipeline.sources.conversations import IMAGE, Conversation, Turn


class NoInsertion(ValueError):
    """Why a conversation takes no question; the message follows "conversations"."""


def insertion_places(conversation: Conversation) -> list[int]:
    """The numbers of turns before which a question may stand, the end among them.

    They lie behind the answer to the turn that shows the image, and between an answer and the next
    question: whatever is asked there, the model has seen the image and no dialogue is torn apart.
    Raises `NoInsertion` where there is no such place.
    """
    turns = conversation.turns
    spoken = [turn.role for turn in turns]
    if spoken[:1] == ["system"]:
        del spoken[0]
    if spoken != ["user", "assistant"] * (len(spoken) // 2) or not spoken:
        raise NoInsertion("whose turns are no questions with an answer each")
    if len(conversation.images) > 1:
        raise NoInsertion("with several images, of which a question would mean any")
    showing = [number for number, turn in enumerate(turns) if IMAGE in turn.text]
    if not showing:
        raise NoInsertion("whose image no turn shows with <image>")
    if len(showing) > 1 or turns[showing[0]].role == "assistant":
        raise NoInsertion("with <image> in several turns or in an answer")
    [first] = showing
    return [
        number
        for number in range(first + 1, len(turns) + 1)
        if turns[number - 1].role == "assistant"
    ]


def insert_pairs(
    turns: Sequence[Turn], places: Sequence[int], pairs: Sequence[tuple[str, str]], draws: Draws
) -> tuple[list[Turn], list[int]]:
    """The turns with every (question, answer) where its draw puts it, and the questions' numbers.

    Where several fall on one place, their order is drawn too.
    """
    drawn = [
        (places[draws.below(len(places), f"turn {number}")], draws.below(2**32, f"order {number}"))
        for number in range(len(pairs))
    ]
    found, numbers = list(turns), [0] * len(pairs)
    shift = 0
    for number in sorted(range(len(pairs)), key=lambda each: drawn[each]):
        place = drawn[number][0] + shift
        question, answer = pairs[number]
        found[place:place] = [Turn("user", question), Turn("assistant", answer)]
        numbers[number] = place
        shift += 2
    return found, numbers


def expand(template: str, words: str, size: int, num_indices: int | None = None) -> str:
    """A question about a region of a frame of `size` pixels a side, as Table 6 words it.

    `words` are those of a `FrameRegion`; `num_indices` is the hint that questions for indices have.
    """
    question = template.replace(IMAGE_WORDS, f"{words} {IMAGE_WORDS}".strip())
    note = f"Note that the image resolution is [3, {size}, {size}]"
    if num_indices is None:
        return f"{question} {note}."
    return f"{question} {note}, so you should generate {num_indices} indices"
