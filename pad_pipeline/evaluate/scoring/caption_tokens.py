"""Captions as the public metrics read them: Penn Treebank tokens in lower case, no punctuation."""

from __future__ import annotations

import re
from collections.abc import Sequence

from pad_pipeline.evaluate.scoring.java import metrics_folder, run_java

_JAR = "tokenizer/stanford-corenlp-3.4.1.jar"
_PUNCTUATION = frozenset(
    {*"'`.?!,:-;", "''", "``", "--", "...", "-LRB-", "-RRB-", "-LCB-", "-RCB-"}
)
"""What pycocoevalcap drops; brackets come in lower case and stay, as there."""

_LINE_ENDS = re.compile("[\n\r\x0b\x0c\u2028\u2029]")
"""What ends a line for the tokenizer: it would take the rest for the next caption."""


def tokenize(captions: Sequence[str]) -> list[str]:
    """The tokens of each caption, joined by spaces; "" of one that holds none."""
    if not captions:
        return []
    text = "\n".join(_LINE_ENDS.sub(" ", caption) for caption in captions)
    printed = run_java(
        [
            *("-cp", str(metrics_folder() / _JAR)),
            *("edu.stanford.nlp.process.PTBTokenizer", "-preserveLines", "-lowerCase"),
        ],
        text,
    )
    lines = printed.split("\n")
    if lines and not lines[-1]:
        lines.pop()
    # Captions without a token at the end of the text may give no line.
    lines += [""] * (len(captions) - len(lines))
    assert len(lines) == len(captions), f"{len(lines)} lines for {len(captions)} captions"
    return [
        " ".join(token for token in line.rstrip().split(" ") if token not in _PUNCTUATION)
        for line in lines
    ]
