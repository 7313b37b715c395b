"""One run of `conversations`, from a list of conversations to a finished folder."""

from __future__ import annotations

import hashlib
import logging
from collections.abc import Callable, Iterator
from dataclasses import dataclass, replace
from typing import Any

from pad_pipeline import __version__, storage
from pad_pipeline.cognition.config import CognitionConfig, identity
from pad_pipeline.cognition.counts import Counts
from pad_pipeline.cognition.entries import TEXT_ALONE, Entry, RegionLookup, read
from pad_pipeline.cognition.folder import ConversationFolder, open_or_resume
from pad_pipeline.cognition.work import Worker
from pad_pipeline.dataset.reader import open_dataset
from pad_pipeline.engine.device import choose_device
from pad_pipeline.errors import Setting, UserError, plural
from pad_pipeline.models import references
from pad_pipeline.models.base import Runtime
from pad_pipeline.storage.locks import only_run_on

logger = logging.getLogger(__name__)

Shard = tuple[int, list[Entry]]
Results = Iterator[tuple[int, bytes, Counts]]
WorkOnRay = Callable[[CognitionConfig, Iterator[Shard]], Results]
Progress = Callable[[int], None]
"""Called with the number of entries that are written so far."""

_READ_BYTES = 8 << 20


class TooManyWithoutQuestions(UserError):
    """More entries got no questions than the config allows; the folder is complete all the same."""

    exit_code = 3


@dataclass(frozen=True, slots=True)
class ConversationsReport:
    """What a finished folder holds."""

    output: str
    counts: Counts
    num_shards: int

    def lines(self) -> list[str]:
        """The report for people."""
        counts = self.counts
        tagged = f", {counts.num_tagged:,} about a tagged region" if counts.num_tagged else ""
        return [
            f"{self.output}: {plural(counts.num_entries, 'conversation')} in "
            f"{plural(self.num_shards, 'shard')}",
            f"  {counts.num_asked:,} with a question for indices and one for colours{tagged}",
            *(f"  {line}" for line in counts.lines()),
        ]


def make_conversations(
    source: str,
    output: str,
    config: CognitionConfig,
    *,
    images: str | None = None,
    region_dataset: str | None = None,
    work_on_ray: WorkOnRay | None = None,
    progress: Progress = lambda done: None,
) -> ConversationsReport:
    """Put a question for VQ indices and one for RGB values into every conversation of `source`.

    `source` is LLaVA's JSON or JSON Lines, `images` where the images are, `region_dataset` a data
    set of the same images whose masks' boxes are asked about. The same call again continues where
    the last one stopped. `work_on_ray` works on shards elsewhere (see `on_ray`); without it this
    process does, one shard after the other.

    Raises `UserError` where source, output or model are not as they must be, and
    `TooManyWithoutQuestions` where more got none than `config.max_failed_share`.
    """
    source, output = storage.absolute(source), storage.absolute(output)
    images = storage.absolute(images) if images is not None else None
    config = replace(config, codes=str(_absolute(config.codes)))
    fingerprint = references.fingerprint(config.codes, "vq")
    # Its codes must fit the regions before anything is written.
    worker = build_worker(config if work_on_ray is None else replace(config, device="cpu"))
    given = {
        **identity(config, fingerprint),
        "source": _digest(source),
        "region_dataset": None,
    }
    regions = None
    if region_dataset is not None:
        region_dataset = storage.absolute(region_dataset)
        regions = RegionLookup(region_dataset)
        given["region_dataset"] = open_dataset(region_dataset).manifest.get("shards")
    with only_run_on(output):
        folder = open_or_resume(output, given)
        if folder.finished:
            logger.info("%s is already finished; nothing to do", output)
            counts = Counts.from_dict(folder.manifest["counts"])
            return _conclude(folder, counts, config)
        entries = _Numbered(read(source, images, regions), config.rows_per_shard, folder, progress)
        if work_on_ray is not None:
            results = work_on_ray(config, entries.pending())
        else:
            results = ((number, *worker(some)) for number, some in entries.pending())
        for number, lines, counts in results:
            folder.commit(number, lines, counts)
            entries.add_done(counts.num_entries)
        if regions is not None:
            regions.report()
        provenance = {
            "source": source,
            "images": images,
            "regions_of": region_dataset,
            "codes": {"model": config.codes, "checksum": fingerprint},
            "pad_pipeline": __version__,
        }
        counts = folder.finish(entries.num_shards, provenance)
        return _conclude(folder, counts, config)


class _Numbered:
    """The entries of a source in shards, of which those that are not written are worked on."""

    def __init__(
        self,
        entries: Iterator[Entry],
        size: int,
        folder: ConversationFolder,
        progress: Progress,
    ) -> None:
        self._entries, self._size, self._folder = entries, size, folder
        self._progress, self._num_done = progress, 0
        self.num_shards = 0

    def pending(self) -> Iterator[Shard]:
        """(number, entries) of every shard that is not there yet, in order."""
        some: list[Entry] = []
        for entry in self._entries:
            some.append(entry)
            if len(some) == self._size:
                yield from self._next(some)
                some = []
        if some:
            yield from self._next(some)

    def add_done(self, number: int) -> None:
        """Tell the progress."""
        self._num_done += number
        self._progress(self._num_done)

    def _next(self, entries: list[Entry]) -> Iterator[Shard]:
        number, self.num_shards = self.num_shards, self.num_shards + 1
        if self._folder.has(number):
            self.add_done(len(entries))
        else:
            yield number, entries


def build_worker(config: CognitionConfig, *, num_gpus: float | None = None) -> Worker:
    """The worker of a config, with its VQ model loaded.

    `num_gpus` are those that a worker of a cluster reserves; None is this machine's. Raises
    `UserError` where the model cannot be loaded, or its codes do not fit the regions.
    """
    from pad_pipeline.models.vq.load import load_image_coder

    device = choose_device(config.device, cluster_gpus=num_gpus)
    coder = load_image_coder(config.codes, Runtime(device=device, dtype=config.dtype))
    return Worker(config, coder)


def _absolute(reference: str) -> Any:
    """A path as workers elsewhere need it; hub ids and "embedded" stay."""
    if reference == references.EMBEDDED:
        return reference
    place = references.resolve(reference)
    return place if isinstance(place, str) else place.absolute()


def _digest(source: str) -> str:
    """The checksum of the source's bytes, so that a run goes on with the same entries alone."""
    digest = hashlib.sha256()
    with storage.open_read(source) as file:
        while part := file.read(_READ_BYTES):
            digest.update(part)
    return f"sha256:{digest.hexdigest()}"


def _conclude(
    folder: ConversationFolder, counts: Counts, config: CognitionConfig
) -> ConversationsReport:
    report = ConversationsReport(folder.url, counts, len(folder.manifest["shards"]))
    share = counts.num_failed / max(counts.num_images, 1)
    if share > config.max_failed_share:
        lines = [line for line in counts.lines() if TEXT_ALONE not in line]
        raise TooManyWithoutQuestions(
            f"{counts.num_failed:,} of {counts.num_images:,} conversations with an image got no "
            f"questions, {share:.1%} where ",
            Setting("max_failed_share"),
            f" allows {config.max_failed_share:.1%}: {'; '.join(lines)}. All are in "
            f"{folder.url}, these as they were",
        )
    return report
