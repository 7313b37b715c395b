"""The files of a source that are no images here, counted by their endings and reported once."""

from __future__ import annotations

import logging
import posixpath
from collections import Counter

from pad_pipeline.images.formats import OPTIONAL_SUFFIXES, has_image_suffix
from pad_pipeline.sources.rows import is_leaving

logger = logging.getLogger(__name__)

_MOST_NAMED = 8


class LeftOut:
    """What one listing of a source leaves out."""

    def __init__(self) -> None:
        self.endings: Counter[str] = Counter()
        self.num_hidden = 0
        self.num_datasets = 0
        """Folders below the source that are data sets of this program."""
        self._is_reported = False

    def add(self, name: str) -> None:
        """Count a file by the ending of its name; a hidden one counts only if it ends as an image.

        What operating systems leave in folders (`._x.jpg`, `.DS_Store`, `__MACOSX`) is nobody's
        picture and is not counted.
        """
        base = posixpath.basename(name)
        if is_leaving(name):
            return
        if base.startswith("."):
            self.num_hidden += has_image_suffix(base)
            return
        self.endings[posixpath.splitext(base)[1].lower()] += 1

    def sentence(self) -> str | None:
        """What was left out, in one sentence; None where nothing was."""
        parts = [
            f"{count:,} {ending or 'without an ending'}{_advice(ending)}"
            for ending, count in self.endings.most_common(_MOST_NAMED)
        ]
        if others := self.endings.total() - sum(
            count for _, count in self.endings.most_common(_MOST_NAMED)
        ):
            parts.append(f"{others:,} with other endings")
        if self.num_hidden:
            parts.append(f"{self.num_hidden:,} hidden")
        if self.num_datasets:
            parts.append(f"{self.num_datasets:,} data sets of this program with all below them")
        return ", ".join(parts) or None

    def report(self, source: str) -> None:
        """Log the sentence, once."""
        sentence = self.sentence()
        if sentence is not None and not self._is_reported:
            logger.info("left out of %s: %s", source, sentence)
        self._is_reported = True


def _advice(ending: str) -> str:
    form = OPTIONAL_SUFFIXES.get(ending)
    return f" ({form.package} reads them: pip install 'pad-pipeline[heif]')" if form else ""
