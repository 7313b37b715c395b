"""The figures of a data set: images, regions, tags and how sizes and scores are spread."""

from __future__ import annotations

from collections import Counter
from collections.abc import Iterable, Sequence
from dataclasses import asdict, dataclass
from itertools import pairwise
from typing import Any

import numpy as np

from pad_pipeline.dataset.chooser import Chooser
from pad_pipeline.dataset.known_names import warn_about_unknown_names
from pad_pipeline.dataset.manifest import State
from pad_pipeline.dataset.reader import iter_whole_records, open_dataset, report_unfinished
from pad_pipeline.dataset.selection import Selection
from pad_pipeline.progress import track
from pad_pipeline.records import PadRecord
from pad_pipeline.review.choice import ReviewChoice, mention_unused

AREA_FRACTION_EDGES = (0.0, 0.001, 0.003, 0.01, 0.03, 0.1, 0.3, 1.0)
SCORE_EDGES = tuple(number / 20 for number in range(21))
NUM_TOP_TAGS = 50
MANY_REGIONS = 20
"""Images with this many regions or more are counted together."""
_BLOCK = 1024
_BAR = 28


@dataclass(frozen=True, slots=True)
class Histogram:
    """`counts[i]` values lie in [`edges[i]`, `edges[i + 1]`); the last bin holds its upper edge.

    Values beyond the outer edges are counted in the outer bins.
    """

    edges: tuple[float, ...]
    counts: tuple[int, ...]


@dataclass(frozen=True, slots=True)
class Stats:
    """What `compute_stats` counts.

    `regions_per_image[n]` are the decoded images with n regions, the last entry those with
    `MANY_REGIONS` or more. `area_share` is mask pixels over image pixels. `num_region_tags` are the
    different tags of regions, `num_image_tags` those that the tagger gave at all. Of
    `num_tags_given`, one per image and tag, `num_tags_without_region` have no region of that tag in
    their image. `top_tags` and `top_tags_without_region` are (tag, count), most first.
    `failures` counts failed images by "stage: type".
    """

    url: str
    state: State
    num_images: int
    images_by_status: dict[str, int]
    num_regions: int
    mean_regions: float
    regions_per_image: tuple[int, ...]
    num_region_tags: int
    num_image_tags: int
    num_tags_given: int
    num_tags_without_region: int
    top_tags: tuple[tuple[str, int], ...]
    top_tags_without_region: tuple[tuple[str, int], ...]
    area_share: Histogram
    score: Histogram
    predicted_iou: Histogram
    failures: dict[str, int]


def compute_stats(
    url: str, select: Selection | None = None, review: ReviewChoice | None = None
) -> Stats:
    """Counts all records of a data set, or a selection, without reading the masks.

    Raises `UserError` where the data set or the review cannot be read.
    """
    dataset = open_dataset(url)
    report_unfinished(dataset)
    mention_unused(url, review)
    chooser = Chooser(url, select, review)
    warn_about_unknown_names(dataset, select, chooser.new_tags)
    statuses: Counter[str] = Counter()
    failures: Counter[str] = Counter()
    region_tags: Counter[str] = Counter()
    image_tags: Counter[str] = Counter()
    without_region: Counter[str] = Counter()
    per_image = np.zeros(MANY_REGIONS + 1, dtype=np.int64)
    spread = {"area": _Spread(AREA_FRACTION_EDGES), "score": _Spread(SCORE_EDGES)}
    spread["iou"] = _Spread(SCORE_EDGES)
    records = track(iter_whole_records(dataset, masks=False), dataset.num_rows, "counting images")
    for chosen in chooser.choose(records):
        record = chosen.record
        statuses[record.status] += 1
        if record.status == "failed":
            failures[_cause(record)] += 1
            continue
        per_image[min(len(record.labels), MANY_REGIONS)] += 1
        found = {region.tag for region in record.labels}
        region_tags.update(region.tag for region in record.labels)
        names = {tag.tag for tag in record.tags}  # one may be there from several origins
        image_tags.update(names)
        without_region.update(names - found)
        pixels = max(record.width * record.height, 1)
        spread["area"].add(region.area / pixels for region in record.labels)
        spread["score"].add(region.score for region in record.labels)
        spread["iou"].add(region.predicted_iou for region in record.labels)
    num_regions, decoded = region_tags.total(), int(per_image.sum())
    return Stats(
        url=url,
        state=dataset.state,
        num_images=statuses.total(),
        images_by_status={name: statuses[name] for name in ("ok", "empty", "failed")},
        num_regions=num_regions,
        mean_regions=num_regions / decoded if decoded else 0.0,
        regions_per_image=tuple(per_image.tolist()),
        num_region_tags=len(region_tags),
        num_image_tags=len(image_tags),
        num_tags_given=image_tags.total(),
        num_tags_without_region=without_region.total(),
        top_tags=_most_common(region_tags),
        top_tags_without_region=_most_common(without_region),
        area_share=spread["area"].histogram(),
        score=spread["score"].histogram(),
        predicted_iou=spread["iou"].histogram(),
        failures=dict(failures.most_common()),
    )


def to_dict(stats: Stats) -> dict[str, Any]:
    """The figures as JSON can hold them."""
    return asdict(stats)


def to_text(stats: Stats, num_tags: int = 12) -> str:
    """The figures as plain text for a terminal, in lines of at most 80 characters."""
    lines = [f"{stats.url}" + (f" ({stats.state})" if stats.state != "finished" else "")]
    status = ", ".join(f"{count:,} {name}" for name, count in stats.images_by_status.items())
    lines += ["", f"images   {stats.num_images:,}  ({status})"]
    lines += [f"regions  {stats.num_regions:,}  ({stats.mean_regions:.2f} per decoded image)"]
    lines += [f"tags     {stats.num_region_tags:,} with regions, {stats.num_image_tags:,} given"]
    if stats.num_tags_given:
        fraction = stats.num_tags_without_region / stats.num_tags_given
        lines += [f"         {fraction:.1%} of {stats.num_tags_given:,} given tags have no region"]
    lines += [f"failed   {count:,}  {cause}" for cause, count in stats.failures.items()]
    names = [str(number) for number in range(MANY_REGIONS)] + [f"{MANY_REGIONS}+"]
    last = max((n for n, count in enumerate(stats.regions_per_image) if count), default=-1)
    lines += _bars("regions per image", names[: last + 1], stats.regions_per_image[: last + 1])
    lines += _bars(
        "mask area / image area", _intervals(AREA_FRACTION_EDGES), stats.area_share.counts
    )
    for title, histogram in (("score", stats.score), ("predicted IoU", stats.predicted_iou)):
        # Twice as wide bins: twenty lines would push the rest off the screen.
        pairs = np.add.reduceat(histogram.counts, range(0, len(histogram.counts), 2)).tolist()
        lines += _bars(title, _intervals(histogram.edges[::2]), pairs)
    if stats.top_tags:
        tags, counts = zip(*stats.top_tags[:num_tags], strict=True)
        lines += _bars("most frequent tags", tags, counts, total=stats.num_regions)
    return "\n".join(lines)


class _Spread:
    """Counts values into bins, a block at a time."""

    def __init__(self, edges: Sequence[float]) -> None:
        self._edges = np.asarray(edges)
        self._counts = np.zeros(len(edges) - 1, dtype=np.int64)
        self._waiting: list[float] = []

    def add(self, values: Iterable[float]) -> None:
        self._waiting.extend(values)
        if len(self._waiting) >= _BLOCK:
            self._count()

    def histogram(self) -> Histogram:
        self._count()
        return Histogram(tuple(self._edges.tolist()), tuple(self._counts.tolist()))

    def _count(self) -> None:
        values = np.nan_to_num(np.asarray(self._waiting, dtype=np.float64))
        # As float32, as the shards hold them: a score of 0.7 belongs to the bin that begins there.
        bins = np.searchsorted(self._edges.astype(np.float32), values.astype(np.float32), "right")
        bins = np.clip(bins - 1, 0, len(self._counts) - 1)
        self._counts += np.bincount(bins, minlength=len(self._counts))
        self._waiting.clear()


def _cause(record: PadRecord) -> str:
    return f"{record.error.stage}: {record.error.type}" if record.error else "unknown"


def _most_common(counts: Counter[str]) -> tuple[tuple[str, int], ...]:
    # By name where counts are equal: the order of reading must not decide.
    return tuple(sorted(counts.items(), key=lambda item: (-item[1], item[0]))[:NUM_TOP_TAGS])


def _intervals(edges: Sequence[float]) -> list[str]:
    return [f"{low:g} – {high:g}" for low, high in pairwise(edges)]


def _bars(
    title: str, names: Sequence[str], counts: Sequence[int], total: int | None = None
) -> list[str]:
    largest, total = max(counts, default=0), sum(counts) if total is None else total
    if not total:
        return []
    width = min(max(map(len, names)), 28)
    lines = ["", title]
    for name, count in zip(names, counts, strict=True):
        shown = name if len(name) <= width else name[: width - 1] + "…"
        bar = "█" * round(_BAR * count / largest) or ("▏" if count else "")
        lines.append(f"  {shown:>{width}}  {bar:<{_BAR}}  {count:,} ({count / total:.1%})")
    return lines
