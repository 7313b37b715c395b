"""METEOR 1.5 by its own program, with the statistics from which corpus scores are made."""

from __future__ import annotations

import atexit
from collections.abc import Iterator, Sequence
from contextlib import ExitStack, contextmanager
from functools import cache
from threading import Lock

import numpy as np
from numpy.typing import NDArray

from pad_pipeline.evaluate.scoring.java import Dialogue, metrics_folder, talk_to_java
from pad_pipeline.evaluate.scoring.scores import Metric

_JAR = "meteor/meteor-1.5.jar"
_SEPARATOR = " ||| "
_ALONE = Lock()
_LENGTH, _CHUNKS, _MATCHED = [0, 1], 20, [21, 22]
"""Places in the statistics of a pair: words of candidate and reference, chunks, matched words."""


def meteor(
    candidates: Sequence[str], references: Sequence[Sequence[str]]
) -> tuple[Metric, NDArray[np.float64]]:
    """(corpus score, (N,) scores of the pairs) of tokenized captions, `-l en -norm`.

    The corpus score is not the mean of the pairs: it comes from their summed statistics.
    """
    with _program() as program:
        statistics = [
            _statistics(program, candidate, several)
            for candidate, several in zip(candidates, references, strict=True)
        ]
        program.say(_SEPARATOR.join(["EVAL", *statistics]))
        scores = [float(program.hear()) for _ in statistics]
        corpus = float(program.hear())
    sums_NK = _summands(statistics)

    def resampled(draws_RN: NDArray[np.int64]) -> NDArray[np.float64]:
        with _program() as program:
            return np.array([_corpus_score(program, sums_K) for sums_K in draws_RN @ sums_NK])

    return Metric(corpus, resampled), np.array(scores)


def _summands(statistics: Sequence[str]) -> NDArray[np.float64]:
    """(N, K) what METEOR adds up over pairs: a match of whole texts in one piece has no chunk."""
    numbers_NK = np.array([[float(number) for number in line.split()] for line in statistics])
    is_whole_N = (numbers_NK[:, _CHUNKS] == 1) & (
        numbers_NK[:, _MATCHED] == numbers_NK[:, _LENGTH]
    ).all(axis=1)
    numbers_NK[is_whole_N, _CHUNKS] = 0
    return numbers_NK


@contextmanager
def _program() -> Iterator[Dialogue]:
    """The program, kept for this process's life: it takes seconds to load its tables."""
    with _ALONE:
        stack, program = _start()
        try:
            yield program
        except BaseException:
            # What it was asked last may still be on its way.
            _start.cache_clear()
            stack.close()
            raise


@cache
def _start() -> tuple[ExitStack, Dialogue]:
    jar = str(metrics_folder() / _JAR)
    stack = ExitStack()
    atexit.register(stack.close)
    talk = talk_to_java(["-Xmx2G", "-jar", jar, "-", "-", "-stdio", "-l", "en", "-norm"])
    return stack, stack.enter_context(talk)


def _statistics(program: Dialogue, candidate: str, references: Sequence[str]) -> str:
    candidate = candidate.replace("|||", "").replace("  ", " ")
    program.say(_SEPARATOR.join(["SCORE", *references, candidate]))
    return program.hear()


def _corpus_score(program: Dialogue, sums_K: NDArray[np.float64]) -> float:
    program.say(_SEPARATOR.join(["EVAL", " ".join(f"{number:.1f}" for number in sums_K)]))
    program.hear()  # of the pair, which is the same
    return float(program.hear())
