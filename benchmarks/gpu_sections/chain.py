"""The whole chain as a worker runs it: JPEG files in, records with tags, boxes and masks out."""

from __future__ import annotations

import dataclasses
import logging
from collections import Counter
from collections.abc import Iterator, Sequence
from concurrent.futures import ThreadPoolExecutor
from contextlib import contextmanager
from dataclasses import dataclass, replace
from functools import partial
from typing import Any
from unittest.mock import patch

import torch

from gpu_sections import weights, workload
from gpu_sections.bench import Bench, NotThere, Row, Rows
from gpu_sections.workload import Mixture, OwnTags
from pad_pipeline.engine.build import build_chain
from pad_pipeline.engine.chain import Chain
from pad_pipeline.engine.config import PRESETS, AnnotateConfig
from pad_pipeline.engine.lanes import Lanes, open_lanes
from pad_pipeline.engine.plan import chunks_in_flight
from pad_pipeline.engine.sample import Sample, to_record
from pad_pipeline.models import registry
from pad_pipeline.records import PadRecord

SMALL_CARD_GIB = 22
"""What a card of 24 GB leaves to torch: its own context takes the rest."""

IMAGES = 640
"""Those of five chunks of the presets, which a row with two in flight takes."""

TINY_CHUNK = 2


@dataclass(frozen=True)
class Case:
    """One row: which images, which preset, and what differs from it."""

    mixture: Mixture
    preset: str = "paper"
    changes: tuple[tuple[str, Any], ...] = ()
    memory_gib: float | None = None
    num_tags: int | None = None
    """Of each image; without it as many as `workload.own_tags` draws."""

    @property
    def name(self) -> str:
        """As the table calls it: `web, quantize fp8`."""
        parts = [self.mixture, *([] if self.preset == "paper" else [f"preset {self.preset}"])]
        parts += [f"{field.rpartition('.')[2]} {value}" for field, value in self.changes]
        parts += [f"within {self.memory_gib} GiB"] if self.memory_gib else []
        parts += [f"{self.num_tags} tags"] if self.num_tags else []
        return ", ".join(parts)


FP8 = ("segment.quantize", "fp8")
ONE = ("in_flight", 1)
CASES = (
    Case("web"),
    Case("uniform"),
    Case("web", changes=(FP8,)),
    Case("web", preset="fast"),
    Case("web", memory_gib=SMALL_CARD_GIB),
    Case("web", changes=(ONE,)),
    Case("coco"),
    Case("uniform", changes=(ONE,)),
    Case("uniform", changes=(FP8,)),
    Case("uniform", preset="fast"),
    Case("web", changes=(("detect.pad_to", "canvases"),)),
    Case("web", changes=(("detect.group_by_size", False),)),
    Case("web", changes=(("chunk_size", 32),)),
)


def rows(bench: Bench) -> Rows:
    """The bars of the chain first."""
    for case in CASES:
        yield case.name, partial(measure, bench, case)


def measure(bench: Bench, case: Case) -> Row:
    """Images per second, the time of each stage, and what was found.

    The first chunk warms up; those that are measured, two for each in flight, have other images,
    some of them of sizes that have not been seen.
    """
    config = configure(bench, case)
    if FP8 in case.changes and not bench.on_gpu:
        raise NotThere("fp8 needs a GPU")
    chunk, number = config.chunk_size, chunks_in_flight(config)
    needed = (1 + 2 * number) * chunk
    # as many for all rows, so that they are made once
    data = workload.jpegs(case.mixture, max(needed, 0 if bench.tiny else IMAGES), bench.tiny)
    data = data[:needed]
    with limited_memory(bench, case.memory_gib), heard_warnings() as warnings:
        worker = Worker(bench, config, case.num_tags)
        measured = data[chunk:]
        records: list[PadRecord] = []

        def step() -> None:
            worker.clear()
            records[:] = worker.annotate(measured)

        row = bench.rate(step, len(measured), lambda: worker.annotate(data[:chunk]))
    failed = [record.error for record in records if record.error]
    if failed:
        raise RuntimeError(f"{len(failed)} of {len(records)} images failed: {failed[0]}")
    return row | {
        "sizes": workload.source_of(case.mixture),
        "chunk_size": chunk,
        "in_flight": number,
        "batch_sizes": {name: getattr(config, name).batch_size for name in config.models},
        **worker.describe(),
        **describe(records),
        "warnings": warnings[:5],
    }


class Worker:
    """The chain as a worker of a run has it: chunks of JPEG files in, several in flight."""

    def __init__(self, bench: Bench, config: AnnotateConfig, num_tags: int | None = None) -> None:
        """Load the models; the tagger answers with the tags of `workload.own_tags`."""
        self._chunk, self._number = config.chunk_size, chunks_in_flight(config)
        self._totals: Counter[str] = Counter()
        self._passes: Counter[str] = Counter()
        self._images: Counter[str] = Counter()
        with own_tags(bench, num_tags):
            self._lanes = open_lanes(
                partial(build_chain, config), self._number, lambda seconds: lambda *given: None
            )

    def annotate(self, data: Sequence[bytes]) -> list[PadRecord]:
        """The records of images, in order."""
        chunks = [data[start : start + self._chunk] for start in range(0, len(data), self._chunk)]
        lanes = Lanes(self._lanes)

        def work(chunk: Sequence[bytes]) -> list[PadRecord]:
            samples = [
                Sample(image_id=str(index), uri="", data=item) for index, item in enumerate(chunk)
            ]
            with lanes.take() as use:
                done = [to_record(sample) for sample in use.lane.stage(samples)]
                self._totals.update(use.lane.seconds)
            return done

        with ThreadPoolExecutor(self._number) as pool:
            records = [record for chunk in pool.map(work, chunks) for record in chunk]
        for lane in self._lanes:
            assert isinstance(lane.stage, Chain)
            for name, count in lane.stage.take_passes().items():
                self._passes[name] += count.passes
                self._images[name] += count.images
        return records

    def clear(self) -> None:
        """Forget the times and passes so far."""
        self._totals.clear()
        self._passes.clear()
        self._images.clear()

    def describe(self) -> Row:
        """The share of each stage in the time, and images per call of each model."""
        total = sum(self._totals.values())
        return {
            "time_by_stage": {
                name: round(value / total, 3) for name, value in self._totals.items()
            },
            "images_per_batch": {
                name: round(self._images[name] / passes, 2)
                for name, passes in self._passes.items()
                if passes
            },
        }


def configure(bench: Bench, case: Case) -> AnnotateConfig:
    """The preset with the benchmark's models, and with the changes of the case.

    Raises `NotThere` where a field that is to be changed does not exist.
    """
    config = PRESETS[case.preset]()
    own = {"fast": {"segment": "segmenter-fast"}, "sam3": {"detect": "detector-sam3"}}
    models = {"tag": "tagger", "detect": "detector", "segment": "segmenter"}
    models |= own.get(case.preset, {})
    stages = {
        name: replace(getattr(config, name), model=str(weights.path_of(bench, models[name])))
        for name in config.models
    }
    config = replace(
        config, device=bench.device, dtype=bench.dtype, threads=bench.threads, **stages
    )
    if bench.tiny:
        small = {n: replace(s, batch_size=2) for n, s in stages.items()}
        config = replace(config, chunk_size=TINY_CHUNK, rows_per_shard=TINY_CHUNK, **small)
    for path, value in case.changes:
        config = changed(config, path, value)
    return config


def changed(config: Any, path: str, value: Any) -> Any:
    """`config` with one field, which may lie in a stage's config, set."""
    first, _, rest = path.partition(".")
    if first not in {field.name for field in dataclasses.fields(config)}:
        raise NotThere(f"{type(config).__name__} has no field {first}")
    if first == "chunk_size":
        value = min(value, config.chunk_size)
        return replace(config, chunk_size=value, rows_per_shard=value)
    return replace(
        config, **{first: changed(getattr(config, first), rest, value) if rest else value}
    )


def describe(records: Sequence[PadRecord]) -> Row:
    """What the models found: the rates hold for so many tags, boxes and mask changes an image."""
    labels = [label for record in records for label in record.labels]
    areas = [
        label.area / (record.width * record.height) for record in records for label in record.labels
    ]
    boxes = sorted(len(record.labels) for record in records)
    return {
        "tags_per_image": round(sum(len(record.tags) for record in records) / len(records), 1),
        "boxes_per_image": round(len(labels) / len(records), 2),
        "boxes_least_and_most": [boxes[0], boxes[-1]],
        "mask_share_of_image": round(sum(areas) / max(len(areas), 1), 3),
        "mask_bytes": round(sum(len(label.rle_mask) for label in labels) / max(len(labels), 1)),
        "empty_masks": sum(not label.area for label in labels),
    }


@contextmanager
def own_tags(bench: Bench, number: int | None = None) -> Iterator[None]:
    """Within it, taggers answer with the tags of `workload.own_tags` when they have run."""
    load = registry.load_tagger

    def wrapped(*arguments: Any, **options: Any) -> Any:
        return OwnTags(load(*arguments, **options), bench.tiny, number)

    with patch.object(registry, "load_tagger", wrapped):
        yield


@contextmanager
def limited_memory(bench: Bench, gib: float | None) -> Iterator[None]:
    """Within it, torch takes no more of the GPU's memory than a smaller card has."""
    if gib is None or not bench.on_gpu:
        yield
        return
    whole = torch.cuda.get_device_properties(0).total_memory / 2**30
    torch.cuda.set_per_process_memory_fraction(min(gib / whole, 1.0))
    try:
        yield
    finally:
        torch.cuda.set_per_process_memory_fraction(1.0)


@contextmanager
def heard_warnings() -> Iterator[list[str]]:
    """The different warnings of the package within it: batches halved for want of memory, say."""
    heard: list[str] = []

    class Listener(logging.Handler):
        def emit(self, record: logging.LogRecord) -> None:
            if record.getMessage() not in heard:
                heard.append(record.getMessage())

    listener, logger = Listener(logging.WARNING), logging.getLogger("pad_pipeline")
    logger.addHandler(listener)
    try:
        yield heard
    finally:
        logger.removeHandler(listener)
