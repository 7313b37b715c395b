from __future__ import annotations

import pytest

from pad_pipeline.cognition.draws import Draws
from pad_pipeline.cognition.insertion import (
    NoInsertion,
    expand,
    insert_pairs,
    insertion_places,
)
from pad_pipeline.cognition.templates import HIGH_LEVEL, LOW_LEVEL
from pad_pipeline.sources.conversations import Conversation, Role, Turn

PAIRS = [("high?", "high."), ("low?", "low.")]


def conversation(*texts: str, first: Role = "user", images: int = 1) -> Conversation:
    roles: tuple[Role, Role] = ("user", "assistant")
    start = roles.index(first) if first in roles else 0
    turns = [Turn(roles[(start + n) % 2], text) for n, text in enumerate(texts)]
    return Conversation(tuple(turns), tuple(f"{n}.jpg" for n in range(images)))


def test_draws_stay_the_same_for_ever() -> None:
    draws = Draws(0, "000000033471")
    found = [draws.below(20, what) for what in ("question for indices", "turn 0", "turn 1")]
    assert found == [9, 12, 11]
    assert draws.below(20, "turn 0") != Draws(1, "000000033471").below(20, "turn 0")


def test_questions_are_worded_as_in_table_6() -> None:
    region = "the upper left quarter of"
    assert expand(HIGH_LEVEL[2], region, 672, 1764) == (
        "Imagine a hypothetical encoding process for the upper left quarter of this image. What "
        "would the resulting VQ indices look like, summarizing its content? Note that the image "
        "resolution is [3, 672, 672], so you should generate 1764 indices"
    )
    assert expand(LOW_LEVEL[18], region, 672) == (
        "Please tell me the RGB value of each and every pixel that makes up the upper left quarter "
        "of this image. Note that the image resolution is [3, 672, 672]."
    )
    assert expand(LOW_LEVEL[2], "", 336).startswith(
        "Could you please list the RGB values for all pixels in this image? Note"
    )


def test_questions_stand_between_an_answer_and_the_next_question_behind_the_image() -> None:
    asked = conversation("<image>\nWhat?", "A bus.", "Where?", "Here.", "When?", "Now.")
    assert insertion_places(asked) == [2, 4, 6]
    late = conversation("Hi", "Hi.", "And <image>?", "A bus.")
    assert insertion_places(late) == [4]
    spoken = Conversation((Turn("system", "Be kind."), *asked.turns), asked.images)
    assert insertion_places(spoken) == [3, 5, 7]


def test_all_places_and_orders_occur_and_the_rest_stays_in_order() -> None:
    asked = conversation("<image>\nWhat?", "A bus.", "Where?", "Here.")
    seen = set()
    for number in range(60):
        turns, numbers = insert_pairs(asked.turns, [2, 4], PAIRS, Draws(0, str(number)))
        assert [turn.role for turn in turns] == ["user", "assistant"] * 4
        assert [turns[n].text for n in numbers] == ["high?", "low?"]
        assert [turns[n + 1].text for n in numbers] == ["high.", "low."]
        others = [t for n, t in enumerate(turns) if n not in {*numbers, *(n + 1 for n in numbers)}]
        assert others == list(asked.turns)
        seen.add(tuple(numbers))
    assert seen == {(2, 4), (4, 2), (2, 6), (6, 2), (4, 6), (6, 4)}


@pytest.mark.parametrize(
    ("asked", "message"),
    [
        (conversation("<image>?", "A bus.", "And?"), "no questions with an answer each"),
        (conversation("A bus.", "<image>?", first="assistant"), "no questions with an answer each"),
        (conversation("What?", "A bus."), "no turn shows with <image>"),
        (conversation("<image>", "This: <image>."), "in several turns or in an answer"),
        (conversation("<image> or <image>?", "The first.", images=2), "with several images"),
        (Conversation((), ("0.jpg",)), "no questions with an answer each"),
    ],
)
def test_a_conversation_that_takes_no_question_says_why(asked: Conversation, message: str) -> None:
    with pytest.raises(NoInsertion, match=message):
        insertion_places(asked)
