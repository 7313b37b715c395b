"""Grounding DINO: passes by their number of images, and chunks of images of mixed sizes."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from contextlib import contextmanager
from functools import partial
from typing import Any

import torch

from gpu_sections import weights, workload
from gpu_sections.bench import Bench, NotThere, Row, Rows
from gpu_sections.workload import Mixture
from pad_pipeline.models.grounding_dino.encode import encode_images
from pad_pipeline.models.grounding_dino.forward import detect_pairs
from pad_pipeline.models.grounding_dino.phrases import encode_texts
from pad_pipeline.models.grounding_dino.prompts import build_prompts
from pad_pipeline.models.registry import load_detector

PASSES, TINY_PASSES = (16, 1, 4, 2, 32), (2, 1)
CHUNKS, TINY_CHUNKS = (128, 32), (4,)
MAX_PAIRS, TINY_MAX_PAIRS = 16, 2


def rows(bench: Bench) -> Rows:
    """Mixed sizes first, which decide what users see; then passes of one size."""
    for mixture in ("web", "coco"):
        for chunk in TINY_CHUNKS if bench.tiny else CHUNKS:
            yield f"{mixture}, chunks of {chunk}", partial(mixed, bench, mixture, chunk)
    chunk = (TINY_CHUNKS if bench.tiny else CHUNKS)[0]
    yield (
        f"web, chunks of {chunk}, on canvases",
        partial(mixed, bench, "web", chunk, pad_to="canvases"),
    )
    yield "parts of a pass", partial(parts, bench)
    for images in TINY_PASSES if bench.tiny else PASSES:
        yield f"one size, passes of {images}", partial(one_pass, bench, images)
    yield "a pass as a CUDA graph", partial(as_graph, bench)  # last: one that fails may break CUDA


def mixed(bench: Bench, mixture: Mixture, chunk: int, **options: Any) -> Row:
    """One call for a whole chunk, its own tags for each image: milliseconds per image and passes.

    The chunk that warms up has other images; those of the measured one are half of new sizes.
    """
    detector = build(bench, **options)
    images = workload.pixels(mixture, 2 * chunk, bench.tiny)
    tags = [workload.own_tags(image, bench.tiny) for image in images]
    with counted_passes(detector) as passes:
        row = bench.rate(
            partial(detector.detect, images[chunk:], tags[chunk:]),
            chunk,
            partial(count_from_here, detector, images[:chunk], tags[:chunk], passes),
        )
    sizes = {detector.input_size(*image.shape[:2]) for image in images[chunk:]}
    return row | {
        "ms_per_image": round(1000 / row["images_per_s"], 2),
        "images_per_pass": round(row["images"] / max(passes[0], 1), 2),
        "different_sizes": len(sizes),
    }


def one_pass(bench: Bench, images: int) -> Row:
    """Images of one size, their own tags, in one pass."""
    detector = build(bench, max_pairs=images)
    pixels = workload.pixels("uniform", images, bench.tiny)
    tags = [workload.own_tags(image, bench.tiny) for image in pixels]
    row = bench.rate(lambda: detector.detect(pixels, tags), images)
    return row | {"ms_per_pass": round(1000 * images / row["images_per_s"], 2)}


def build(bench: Bench, **options: Any) -> Any:
    """The detector of the chain, at the batch size of the preset."""
    options.setdefault("max_pairs", TINY_MAX_PAIRS if bench.tiny else MAX_PAIRS)
    return load_detector(weights.path_of(bench, "detector"), bench.runtime, **options)


def count_from_here(detector: Any, images: Any, tags: Any, passes: list[int]) -> None:
    """A call that warms up and is not counted."""
    detector.detect(images, tags)
    passes[0] = 0


@contextmanager
def counted_passes(detector: Any) -> Iterator[list[int]]:
    """Within it, how many passes a detector has begun: each makes its pixels by one call."""
    passes, make = [0], detector.pixels

    def counting(*given: Any) -> Any:
        passes[0] += 1
        return make(*given)

    detector.pixels = counting
    try:
        yield passes
    finally:
        del detector.pixels


def parts(bench: Bench) -> Row:
    """Milliseconds of a pass by part."""
    one = Pass(bench)
    calls: dict[str, Callable[[], Any]] = {
        "pixels_ms": one.make_pixels,
        "backbone_ms": one.encode_images,
        "texts_ms": one.encode_texts,
        "encoder_and_decoder_ms": one.detect,
    }
    row: Row = {name: round(bench.milliseconds(call), 3) for name, call in calls.items()}
    return row | {"images": len(one.images)}


def as_graph(bench: Bench) -> Row:
    """A pass from its pixels, kernel by kernel and as one CUDA graph.

    What a graph saves is what the host needs to start the kernels one by one.
    """
    if not bench.on_gpu:
        raise NotThere("a CUDA graph needs a GPU")
    one = Pass(bench)

    def whole() -> Any:
        one.encoded = one.encode_images()
        return one.detect()

    milliseconds = bench.milliseconds(whole)
    graph = torch.cuda.CUDAGraph()
    with torch.inference_mode(), torch.cuda.graph(graph):
        whole()
    replayed = bench.milliseconds(graph.replay)
    return {"ms": round(milliseconds, 3), "as_a_graph_ms": round(replayed, 3)}


class Pass:
    """One pass over images of one size, taken apart."""

    def __init__(self, bench: Bench) -> None:
        self.detector = build(bench)
        number = TINY_MAX_PAIRS if bench.tiny else MAX_PAIRS
        self.images = workload.pixels("uniform", number, bench.tiny)
        tags = [workload.own_tags(image, bench.tiny) for image in self.images]
        prompts = [build_prompts(names, self.detector.tokenizer)[0] for names in tags]
        self.ids = [prompt.token_ids for prompt in prompts]
        self.pixels = self.make_pixels()
        self.encoded = self.encode_images()
        self.texts = self.encode_texts()

    @torch.inference_mode()
    def make_pixels(self) -> Any:
        """Upload, resizing and normalisation."""
        return self.detector.pixels(self.images)

    @torch.inference_mode()
    def encode_images(self) -> Any:
        """The backbone, and its maps as tokens."""
        return encode_images(self.detector.network, self.pixels)

    @torch.inference_mode()
    def encode_texts(self) -> Any:
        """The phrases, of which all are known but in the first call."""
        return encode_texts(self.detector.network, self.ids)

    @torch.inference_mode()
    def detect(self) -> Any:
        """Encoder, choice of queries and decoder."""
        return detect_pairs(self.detector.network, self.encoded, self.texts)
