"""One entry of a list of conversations or captions, whatever form it was written in.

The forms are those that people have: LLaVA's and ShareGPT's (`conversations`, `from`, `value`),
OpenAI's messages (`messages`, `role`, `content`, in parts or as text) and The Cauldron's (`texts`,
`user`, `assistant`). `annotate` and `train` read entries through here alone.
"""

from __future__ import annotations

import reprlib
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from typing import Any, Literal

IMAGE = "<image>"
"""What stands for an image in a text."""

Role = Literal["system", "user", "assistant"]

ROLES: Mapping[str, Role] = {
    "system": "system",
    "developer": "system",
    "human": "user",
    "user": "user",
    "gpt": "assistant",
    "assistant": "assistant",
    "chatgpt": "assistant",
    "model": "assistant",
}
"""Who speaks, by the names that are in use, in lower case."""

IMAGE_KEYS = ("image", "images", "image_path")
"""Keys of a conversation's entry that may hold an image's path or a list of paths; the first that
is there counts. A `url` or `path` may be where the text is from."""

_TURN_KEYS = (("from", "value"), ("role", "content"), ("from", "content"), ("role", "value"))
_repr = reprlib.Repr()
_repr.maxstring = _repr.maxother = 80


class ConversationError(ValueError):
    """An entry that is no conversation; the message says what it holds and what is expected."""


@dataclass(frozen=True, slots=True)
class Turn:
    """What one side says."""

    role: Role
    text: str


@dataclass(frozen=True, slots=True)
class Conversation:
    """An entry's turns in their order, with the paths of its images in the order of mention."""

    turns: tuple[Turn, ...]
    images: tuple[str, ...] = ()

    @property
    def first_answer(self) -> str | None:
        """The first text of the assistant; None where it says nothing."""
        return next((turn.text for turn in self.turns if turn.role == "assistant"), None)

    @property
    def num_placeholders(self) -> int:
        """How many `<image>` stand in what the user and the system say."""
        return sum(turn.text.count(IMAGE) for turn in self.turns if turn.role != "assistant")


def has_conversation(entry: Mapping[str, Any]) -> bool:
    """Whether an entry has turns in one of the forms that are known."""
    return any(entry.get(key) is not None for key in _FORMS)


def read_conversation(entry: Mapping[str, Any]) -> Conversation:
    """The conversation of an entry; raises `ConversationError` where it holds none that is whole.

    A number as an answer is its text. Images are those of `image_paths` and, behind them, those
    that a message of OpenAI's form names by itself. The Cauldron's texts get their `<image>` in
    front.
    """
    key = next((key for key in _FORMS if entry.get(key) is not None), None)
    if key is None:
        raise ConversationError(
            f"it holds {', '.join(map(_shown, entry)) or 'nothing'}; expected {_EXAMPLE}"
        )
    value = entry[key]
    if not isinstance(value, list):
        raise ConversationError(f"its {key!r} is {_shown(value)}; expected {_EXAMPLE}")
    named: list[str] = []
    turns = tuple(_FORMS[key](value, named))
    # A message may name again what the entry names.
    images = image_paths(entry)
    images += tuple(path for path in named if path not in images)
    if key == "texts" and images and not any(IMAGE in turn.text for turn in turns):
        turns = (Turn("user", f"{IMAGE}\n" * len(images) + turns[0].text), *turns[1:])
    return Conversation(turns, images)


def read_turns(turns: Sequence[Any]) -> tuple[Turn, ...]:
    """The turns of a conversation in LLaVA's, ShareGPT's or OpenAI's form.

    Raises `ConversationError` for one in another form, and where a side is not known.
    """
    return tuple(_turns(turns, []))


def image_paths(entry: Mapping[str, Any], keys: Sequence[str] = IMAGE_KEYS) -> tuple[str, ...]:
    """The paths of an entry's images; a list of one is that one, null and "" are none.

    Raises `ConversationError` where an image is named by anything but text.
    """
    for key in keys:
        value = entry.get(key)
        if isinstance(value, Mapping):  # as the datasets library writes images
            value = value.get("path") or value.get("url")
        values = value if isinstance(value, list) else [value]
        values = [
            one.get("path") or one.get("url") if isinstance(one, Mapping) else one for one in values
        ]
        paths = [one for one in values if one is not None and one != ""]
        if wrong := [one for one in paths if not isinstance(one, str)]:
            raise ConversationError(
                f"its {key!r} should name images as text, not {_shown(wrong[0])}"
            )
        if paths:
            return tuple(paths)
    return ()


def _turns(value: Sequence[Any], named: list[str]) -> Iterator[Turn]:
    """LLaVA's, ShareGPT's and OpenAI's turns."""
    for number, turn in enumerate(value, 1):
        keys = isinstance(turn, Mapping) and next(
            ((who, what) for who, what in _TURN_KEYS if who in turn and what in turn), None
        )
        if not keys:
            raise ConversationError(f"turn {number} is {_shown(turn)}; expected {_EXAMPLE}")
        who, what = keys
        yield Turn(_role(turn[who], number), _text(turn[what], number, named))


def _role(name: Any, number: int) -> Role:
    role = ROLES.get(name.lower()) if isinstance(name, str) else None
    if role is None:
        raise ConversationError(
            f"turn {number} is from {_shown(name)}; expected one of {', '.join(ROLES)}"
        )
    return role


def _text(content: Any, number: int, named: list[str]) -> str:
    if isinstance(content, str):
        return content
    if isinstance(content, int | float) and not isinstance(content, bool):
        return str(content)
    if isinstance(content, list):
        return "".join(_part(part, number, named) for part in content)
    raise ConversationError(f"turn {number} holds {_shown(content)}; expected text")


def _part(part: Any, number: int, named: list[str]) -> str:
    """A part of a message of OpenAI's form: text, or an image that may name its file."""
    if isinstance(part, str):
        return part
    kind = part.get("type") if isinstance(part, Mapping) else None
    if kind in ("text", "input_text", "output_text") and isinstance(part.get("text"), str):
        return part["text"]
    if kind in ("image", "image_url", "input_image"):
        place = part.get("image") or part.get("image_url") or part.get("path") or part.get("url")
        if isinstance(place, Mapping):
            place = place.get("url") or place.get("path")
        if isinstance(place, str) and place:
            named.append(place)
        return IMAGE
    raise ConversationError(f"turn {number} has a part {_shown(part)}; expected text or an image")


def _pairs(value: list[Any], named: list[str]) -> Iterator[Turn]:
    """The Cauldron's questions and answers, before which all the images stand."""
    del named
    for number, pair in enumerate(value, 1):
        question = pair.get("user") if isinstance(pair, Mapping) else None
        answer = pair.get("assistant") if isinstance(pair, Mapping) else None
        if not isinstance(question, str) or not isinstance(answer, str):
            raise ConversationError(
                f'question {number} is {_shown(pair)}; expected {{"user": "…", "assistant": "…"}}'
            )
        yield Turn("user", question)
        yield Turn("assistant", answer)


def _shown(value: Any) -> str:
    """The beginning of a value, however large or deep it is."""
    return _repr.repr(value)


_FORMS = {"conversations": _turns, "messages": _turns, "conversation": _turns, "texts": _pairs}
CONVERSATION_KEYS = tuple(_FORMS)
"""Keys of an entry that may hold its conversation."""

_EXAMPLE = (
    '"conversations": [{"from": "human", "value": "…"}, {"from": "gpt", "value": "…"}] or '
    '"messages": [{"role": "user", "content": "…"}, {"role": "assistant", "content": "…"}]'
)
