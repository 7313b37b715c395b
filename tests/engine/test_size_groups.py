"""Batches of one size: how full the detector's passes are, what a chunk holds in memory."""

from __future__ import annotations

import random
from collections import Counter
from itertools import groupby

import pytest

from pad_pipeline.engine.batches import alike, cut_by_pixels, in_order
from pad_pipeline.engine.sample import Sample
from pad_pipeline.engine.stages import detect_stage
from pad_pipeline.images import ImageLimits
from pad_pipeline.models.grounding_dino.detector import resized_size
from pad_pipeline.records import Tag
from tests import fakes
from tests.engine.test_stages import encoded, samples


def web_size(random: random.Random) -> tuple[int, int]:
    """(height, width) of an image as on the web, assumed: half in usual proportions."""
    if random.random() < 0.5:
        ratio = random.choice([4 / 3, 4 / 3, 3 / 2, 3 / 2, 3 / 2, 1, 16 / 9, 2 / 3, 3 / 4])
    else:
        ratio = min(max(random.lognormvariate(0.2, 0.35), 0.4), 2.5)
    long = random.randint(400, 1600)
    return (round(long / ratio), long) if ratio >= 1 else (long, round(long * ratio))


def coco_size(random: random.Random) -> tuple[int, int]:
    """(height, width) of an image as in COCO, assumed: mostly 640 pixels by 480 or 427."""
    shares = {(480, 640): 28, (427, 640): 20, (640, 480): 9, (640, 427): 7, (426, 640): 7}
    shares |= {(425, 640): 5, (375, 500): 5, (428, 640): 4, (640, 640): 3, (360, 640): 3}
    common = random.choices([*shares, None], [*shares.values(), 9])[0]
    return common or (random.randint(300, 640), 640)


def seen_size(height: int, width: int) -> tuple[int, int]:
    return resized_size(height, width, 800, 1333)


def sized(sizes: list[tuple[int, int]]) -> list[Sample]:
    return [
        Sample(image_id=str(index), uri="", height=height, width=width)
        for index, (height, width) in enumerate(sizes)
    ]


def images_per_pass(draw, chunk_size: int, *, group: bool, num_images: int = 4096) -> float:
    """Of a detector with batches of 16, which takes a batch of several sizes apart itself."""
    generator, passes = random.Random(0), 0
    images = sized([draw(generator) for _ in range(num_images)])
    for chunk in in_order(images, chunk_size):
        batches = alike(chunk, 16, seen_size) if group else in_order(chunk, 16)
        for batch in batches:
            passes += len({seen_size(image.height, image.width) for image in batch})
    return num_images / passes


@pytest.mark.parametrize(
    ("draw", "before", "after"), [(coco_size, 2.18, 5.46), (web_size, 1.18, 1.66)]
)
def test_passes_are_fuller_where_a_larger_chunk_is_grouped(draw, before, after) -> None:
    """The `paper` preset: chunks of 32 in their order before, of 128 by size now."""
    assert images_per_pass(draw, 32, group=False) == pytest.approx(before, abs=0.01)
    assert images_per_pass(draw, 128, group=True) == pytest.approx(after, abs=0.01)


def test_batches_are_of_one_size_and_full_but_for_the_last_of_a_size() -> None:
    generator = random.Random(1)
    images = sized([coco_size(generator) for _ in range(128)])
    batches = list(alike(images, 16, seen_size))
    assert Counter(s.image_id for batch in batches for s in batch) == Counter(
        s.image_id for s in images
    )
    sizes = [{seen_size(s.height, s.width) for s in batch} for batch in batches]
    assert all(len(of_batch) == 1 for of_batch in sizes)
    for _, same in groupby(zip(sizes, batches, strict=True), lambda pair: pair[0]):
        lengths = [len(batch) for _, batch in same]
        assert lengths[:-1] == [16] * (len(lengths) - 1)
    for batch in batches:
        ids = [int(sample.image_id) for sample in batch]
        assert ids == sorted(ids)


def test_a_grouped_detector_keeps_the_order_of_the_samples_and_counts_its_passes() -> None:
    seen: list[list[tuple[int, ...]]] = []

    class Watching(fakes.FakeDetector):
        def detect(self, images, tags):
            seen.append([image.shape[:2] for image in images])
            return super().detect(images, tags)

    chunk = []
    for index, size in enumerate([(8, 6), (6, 8), (8, 6), (10, 6), (6, 8), (8, 6)]):
        chunk.append(Sample(image_id=str(index), uri="", data=encoded(255, size)))
        chunk[-1].tags = (Tag(f"thing {index}", 0.9),)
    chunk[3].tags = ()
    options = {"batch_size": 2, "seconds": {}, "decode": fakes.decode({})}
    stage = detect_stage(Watching(), group_by_size=True, **options)
    done = stage(list(chunk))
    assert done == chunk
    assert [s.boxes and set(s.boxes.labels) for s in done] == [
        {f"thing {index}"} if index != 3 else set() for index in range(6)
    ]
    assert seen == [[(6, 8), (6, 8)], [(6, 8)], [(8, 6), (8, 6)]]
    assert (stage.passes.passes, stage.passes.images) == (3, 5)


def test_a_chunk_is_cut_where_its_pixels_take_too_much_memory() -> None:
    images = [
        Sample(image_id=str(index), uri="", data=encoded(9, (10, height)))
        for index, height in enumerate([10, 10, 10, 40, 10, 10])
    ]
    images[1].data = b"no image"

    def ids(max_bytes: int) -> list[str]:
        parts = cut_by_pixels(images, max_bytes, ImageLimits())
        return ["".join(sample.image_id for sample in part) for part in parts]

    assert ids(2400) == ["012345"]
    assert ids(2399) == ["01234", "5"]
    assert ids(600) == ["012", "3", "45"]
    assert ids(1) == ["01", "2", "3", "4", "5"]
    before = ids(600)
    images[0].image = fakes.decode({})([images[0]])[0].image
    assert ids(600) == before


def test_a_part_is_let_go_before_the_next_is_decoded() -> None:
    held: list[int] = []
    chunk = samples(255, 255, 255)

    class Holding(fakes.FakeTagger):
        def tag(self, images):
            held.append(sum(sample.image is not None for sample in chunk))
            return super().tag(images)

    chain = fakes.build_all({})
    chain.cut = lambda samples: [[sample] for sample in samples]
    chain.stages = [fakes.tag_stage(Holding(), **fakes.options({})), *chain.stages[1:]]
    done = chain(chunk)
    assert held == [1, 1, 1]
    assert [sample.image_id for sample in done] == ["0", "1", "2"]
    assert all(sample.masks for sample in done)
