"""What all pages of the viewer share: the data set, its pictures, and what every page shows."""

from __future__ import annotations

import shlex
import threading
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import pyarrow as pa
from fastapi import Request
from fastapi.responses import Response

from pad_pipeline.errors import UserError
from pad_pipeline.review.log import ReviewLog
from pad_pipeline.review.marks import Marks, NewTags
from pad_pipeline.view.compare import Comparisons
from pad_pipeline.view.evaluations import EvaluationComparison
from pad_pipeline.view.export_command import export_commands
from pad_pipeline.view.filters import Filters
from pad_pipeline.view.look_alikes import CurrentLookAlikes
from pad_pipeline.view.pages import TEMPLATES
from pad_pipeline.view.pictures import Pictures
from pad_pipeline.view.reconstructions import VlsaRun
from pad_pipeline.view.runs import ProjectorVariant
from pad_pipeline.view.source import DataSet
from pad_pipeline.view.truth.queries import TruthIndex
from pad_pipeline.view.writing import WriteGuard

_MARKED = pa.schema([("image_id", pa.string()), ("kind", pa.string())])
_NUM_PROBED = 4
"""Images that are opened to see whether the images are there."""


@dataclass
class Viewer:
    """What the pages are made from."""

    data: DataSet
    pictures: Pictures
    review: ReviewLog
    runs: list[ProjectorVariant] = field(default_factory=list)
    vlsa_runs: list[VlsaRun] = field(default_factory=list)
    evaluations: list[EvaluationComparison] = field(default_factory=list)
    service: str | None = None
    truth: TruthIndex | None = None
    """How the data set compares with a ground truth; of the shards that were there at the start."""
    writing: WriteGuard = field(default_factory=WriteGuard)
    reviewer: str | None = None
    """Whose marks are of a page that gives no name; the client's address without."""
    comparisons: Comparisons = field(default_factory=Comparisons)
    """With other data sets."""
    look_alikes: CurrentLookAlikes = field(init=False)
    _indexed: tuple[Path, int, int] | None = None
    _renamed: tuple[Path, dict[str, NewTags]] | None = None
    _indexing: threading.Lock = field(default_factory=threading.Lock)
    _probed: tuple[Path, str | None] | None = None

    def __post_init__(self) -> None:
        self.look_alikes = CurrentLookAlikes(self.data)

    def page(self, request: Request, template: str, status: int = 200, **values: Any) -> Response:
        """An HTML page: `values` for its template, and what every page shows."""
        self.data.refresh()
        context = {
            "url": self.data.url,
            "name": self.data.url.rstrip("/").rsplit("/", 1)[-1] or self.data.url,
            "notices": self.notices(),
            "num_failed": self.data.index.stats.images_by_status["failed"],
            "has_runs": bool(self.runs or self.vlsa_runs),
            "has_evaluations": bool(self.evaluations),
            "service": self.service,
            "has_truth": self.truth is not None,
            "can_mark": self.writing.allows(request),
            "has_embeddings": self.look_alikes.are_there,
            **values,
        }
        return TEMPLATES.TemplateResponse(request, template, context, status_code=status)

    def notices(self) -> list[str]:
        """Sentences that hold for the whole data set."""
        contents, index = self.data.contents, self.data.index
        found = []
        if self.data.is_growing:
            of = f" of {contents.num_expected:,}" if contents.num_expected else ""
            found.append(
                f"This data set is still being written: {index.stats.num_images:,}{of} images are "
                "there so far, and new ones appear here by themselves."
            )
        if (problem := self.read_review()[1]) is not None:
            found.append(f"Marks are neither shown nor set: {problem}")
        for name, problem in index.problems.items():
            found.append(f"The shard {name} cannot be read and is left out ({problem}).")
        if (missing := self._images_missing()) is not None:
            found.append(missing)
        return found

    def read_review(self) -> tuple[Marks, str | None]:
        """The marks, and why they cannot be read; none then."""
        try:
            return self.review.marks(), None
        except UserError as error:
            return Marks(), str(error)

    def index_marks(self) -> None:
        """Have the index go by the marks, where it does not do so yet: verdicts and new tags."""
        marks, _ = self.read_review()
        with self._indexing:
            index = self.data.index
            state = (index.path, id(marks), len(marks.events))
            if self._indexed == state:
                return
            pairs = list(marks.iter_kinds())
            columns = {"image_id": [p[0] for p in pairs], "kind": [p[1] for p in pairs]}
            index.put_marks(pa.table(columns, schema=_MARKED))
            images = marks.renamed_images()
            renamed = (index.path, {name: image.new_tags for name, image in images.items()})
            if self._renamed != renamed and (images or self._renamed is not None):
                index.put_renames(images)
                self._renamed = renamed
            self._indexed = state

    def _images_missing(self) -> str | None:
        """Whether not one of the first images can be read, found out once per index."""
        index = self.data.index
        if self._probed is None or self._probed[0] != index.path:
            self._probed = (index.path, self._probe())
        return self._probed[1]

    def _probe(self) -> str | None:
        reason = None
        for row in self.data.index.images(Filters(status="ok"), _NUM_PROBED, 0):
            try:
                record = self.data.record_of(row)
                reason = self.pictures.missing(record)
            except UserError:
                continue
            if reason is None:
                return None
        if reason is None:
            return None
        where = (
            f"below {self.pictures.images}" if self.pictures.images else "where they were annotated"
        )
        return (
            f"The images cannot be read {where} ({reason}): start `pad-pipeline view` with "
            "--images and the folder or archive where they are now; everything else is shown "
            "without them."
        )

    def export_commands(self, request: Request, filters: Filters) -> list[str]:
        """What exports the images that pass, with their marks."""
        marks, _ = self.read_review()
        base_url = str(request.base_url)
        return export_commands(self.data.url, filters, marks, self.review.url, base_url)

    @property
    def retry_command(self) -> str:
        """What annotates the failed images once more."""
        return shlex.join(["pad-pipeline", "retry-failed", self.data.url])
