"""The English words that tokenmaps show in colour: a fixed list, whatever the pictures show."""

from __future__ import annotations

import lzma
from functools import lru_cache
from importlib.resources import files
from pathlib import Path

WORDS = Path(str(files("pad_pipeline.evaluate"))) / "english" / "words.txt.xz"
"""Of SCOWL; `COPYRIGHT` beside it says who made it and what may be done with it."""


@lru_cache(maxsize=1)
def english_words() -> frozenset[str]:
    """Forty thousand words in lower case, inflected forms among them, names not."""
    return frozenset(lzma.decompress(WORDS.read_bytes()).decode("ascii").split())
