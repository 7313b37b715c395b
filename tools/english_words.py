"""Makes the list of English words of `pad_pipeline/evaluate/english` from Debian's package `scowl`.

python tools/english_words.py /usr/share/dict/scowl
"""

from __future__ import annotations

import argparse
import lzma
import re
from pathlib import Path

from pad_pipeline.evaluate.english_words import WORDS

LARGEST_LEVEL = 40
"""SCOWL's: what every larger dictionary has."""
KINDS = ("english-words", "american-words")
_WORD = re.compile(r"[a-z]{2,}|[ai]")


def main() -> None:
    """Write the list."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("scowl", type=Path, help="folder of the package's lists")
    words: set[str] = set()
    for path in parser.parse_args().scowl.iterdir():
        kind, _, level = path.name.rpartition(".")
        if kind in KINDS and int(level) <= LARGEST_LEVEL:
            lines = path.read_text(encoding="latin-1").splitlines()
            words.update(line for line in lines if _WORD.fullmatch(line))
    text = "\n".join(sorted(words)) + "\n"
    WORDS.write_bytes(lzma.compress(text.encode("ascii"), preset=9 | lzma.PRESET_EXTREME))


if __name__ == "__main__":
    main()
