"""The colours of words on white: a hue for each of the most frequent."""

from __future__ import annotations

from collections import Counter
from collections.abc import Collection, Sequence

_NUM_COLOURS = 16
_OTHER = "#5a6472"
_HUES = (
    "#c2364b", "#1f6fb2", "#1d8a5f", "#b0610b", "#7d45b8", "#0c8491", "#b3348e", "#5f7a0e",
    "#3b4fc4", "#9a5a3c", "#c94f1c", "#2c7a3d", "#8a3f6d", "#8f7400", "#4a6a8c", "#d0447a",
)  # fmt: skip


def word_colours(words: Sequence[Sequence[str]], dictionary: Collection[str]) -> dict[str, str]:
    """Word as drawn -> colour: hues for the most frequent of the dictionary, one tone for its rest.

    Pieces that are not in the dictionary are left out: they are black.
    """
    counts = Counter(word.lower() for row in words for word in row if word.lower() in dictionary)
    by_rank = sorted(counts, key=lambda word: (-counts[word], word))
    colours = dict.fromkeys(by_rank, _OTHER)
    colours.update(zip(by_rank[:_NUM_COLOURS], _HUES, strict=False))
    return {word: colours[word.lower()] for row in words for word in row if word.lower() in colours}
