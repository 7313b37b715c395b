"""The stages with fake models: order, isolation, no needless work."""

from __future__ import annotations

import io

import numpy as np
import pytest
from PIL import Image

from pad_pipeline.engine.chain import Chain
from pad_pipeline.engine.config import SuppressConfig
from pad_pipeline.engine.given import GivenTags
from pad_pipeline.engine.sample import Sample, to_record, without_pixels
from pad_pipeline.engine.stages import (
    Decode,
    detect_stage,
    segment_stage,
    suppress_stage,
    tag_stage,
)
from pad_pipeline.given import GivenRegion
from pad_pipeline.images import ImageLimits
from pad_pipeline.models.protocols import Boxes
from tests import fakes


def encoded(shade: int, size: tuple[int, int] = (32, 24)) -> bytes:
    file = io.BytesIO()
    Image.new("RGB", size, (shade, shade, shade)).save(file, "PNG")
    return file.getvalue()


def samples(*shades: int) -> list[Sample]:
    return [
        Sample(image_id=str(index), uri=f"u{index}", data=encoded(shade))
        for index, shade in enumerate(shades)
    ]


def options(**changes):
    seconds: dict[str, float] = {}
    return {
        "batch_size": 4,
        "decode": Decode(ImageLimits(), seconds),
        "seconds": seconds,
        **changes,
    }


def test_the_whole_chain_gives_one_record_per_sample_in_order() -> None:
    chain = fakes.build_all({})
    records = [to_record(sample) for sample in chain(samples(0, 255, 128))]
    assert [record.image_id for record in records] == ["0", "1", "2"]
    assert [record.status for record in records] == ["empty", "ok", "ok"]
    bright = records[1]
    assert (bright.width, bright.height) == (32, 24)
    assert [tag.tag for tag in bright.tags] == ["sky", "sun hat"]
    # the second "sky" box overlaps the first by more than half and is gone
    assert [(region.tag, region.bbox) for region in bright.labels] == [
        ("sky", (0.0, 0.0, 16.0, 12.0)),
        ("sun hat", (16.0, 12.0, 32.0, 24.0)),
    ]
    assert [region.area for region in bright.labels] == [16 * 12, 16 * 12]


def test_an_undecodable_image_fails_alone_with_its_stage() -> None:
    batch = samples(255, 255, 255)
    batch[1].data = b"<!DOCTYPE html><html></html>"
    records = [to_record(sample) for sample in fakes.build_all({})(batch)]
    assert [record.status for record in records] == ["ok", "failed", "ok"]
    assert records[1].error is not None
    assert records[1].error.stage == "decode"
    assert records[1].labels == ()


def test_an_image_that_breaks_a_model_fails_alone() -> None:
    tagger = fakes.FakeTagger(broken=lambda image: image.mean() == 100)
    batch = tag_stage(tagger, **options())(samples(255, 100, 255, 200, 255))
    assert [sample.error is None for sample in batch] == [True, False, True, True, True]
    error = batch[1].error
    assert error is not None
    assert (error.stage, error.type) == ("tag", "ValueError")


def test_batches_are_bounded_and_halved_when_memory_runs_out() -> None:
    tagger = fakes.FakeTagger(most_at_once=2)
    batch = tag_stage(tagger, **options())(samples(*[255] * 6))
    assert all(sample.error is None and sample.tags for sample in batch)
    assert tagger.calls == [4, 2, 2, 2]


def test_a_compiled_model_sees_few_batch_sizes_and_no_result_too_many() -> None:
    tagger = fakes.FakeTagger()
    batch = tag_stage(tagger, **options(batch_size=8, fills_up=True))(samples(*range(0, 221, 20)))
    plain = tag_stage(fakes.FakeTagger(), **options(batch_size=8))(samples(*range(0, 221, 20)))
    assert [sample.tags for sample in batch] == [sample.tags for sample in plain]
    assert tagger.calls == [8, 4]
    few = fakes.FakeTagger(most_at_once=1)
    batch = tag_stage(few, **options(batch_size=8, fills_up=True))(samples(*[255] * 3))
    assert all(sample.error is None and sample.tags for sample in batch)
    assert few.calls == [4, 1, 2, 1, 1]


def test_images_without_tags_are_not_decoded_for_the_detector() -> None:
    class Strict(fakes.FakeDetector):
        def detect(self, images, tags):
            assert all(tags)
            return super().detect(images, tags)

    [sample] = samples(255)
    sample.data = b"never decoded"
    [done] = detect_stage(Strict(), **options())([sample])
    assert done.error is None
    assert done.boxes is not None
    assert len(done.boxes.scores) == 0


def test_an_image_is_decoded_once_in_one_process_and_never_leaves_it() -> None:
    class Counting(Decode):
        calls = 0

        def _decode(self, sample):
            Counting.calls += 1
            return super()._decode(sample)

    decode = Counting(ImageLimits(), {})
    batch = tag_stage(fakes.FakeTagger(), **options(decode=decode))(samples(255, 255))
    batch = detect_stage(fakes.FakeDetector(), **options(decode=decode))(batch)
    assert Counting.calls == 2
    assert all(s.image is None and s.data for s in without_pixels(batch, keep_bytes=True))
    assert all(s.data is None for s in without_pixels(batch, keep_bytes=False))
    batch[0].error = fakes_error()
    assert without_pixels(batch, keep_bytes=True)[0].data is None


def test_stages_hand_on_what_holds_the_pixels() -> None:
    """Arrays of a caller are held like decoded ones, and once."""

    class Held(np.ndarray):
        """As `DeviceImage` is for models on a GPU."""

    def hold(image):
        return image if isinstance(image, Held) else image.view(Held)

    decode = Decode(ImageLimits(), {}, hold=hold)
    batch = samples(255, 255)
    batch[1].image, batch[1].data = np.zeros((4, 5, 3), np.uint8), None
    first = [sample.image for sample in decode(batch)]
    assert all(isinstance(image, Held) for image in first)
    assert all(s.image is image for s, image in zip(decode(batch), first, strict=True))


def fakes_error():
    from pad_pipeline.records import RecordError

    return RecordError("tag", "ValueError", "x")


@pytest.mark.parametrize(("per_class", "kept"), [(False, ("a",)), (True, ("a", "b"))])
def test_suppression_is_class_agnostic_by_default(per_class: bool, kept: tuple[str, ...]) -> None:
    boxes = np.asarray([[0, 0, 10, 10], [0, 0, 10, 9]], np.float32)
    sample = Sample(image_id="0", uri="")
    sample.boxes = Boxes(boxes, np.asarray([0.9, 0.8], np.float32), ("a", "b"), num_prompts=2)
    [done] = suppress_stage(SuppressConfig(per_class=per_class), {})([sample])
    assert done.boxes is not None
    assert done.boxes.labels == kept
    assert done.boxes.num_prompts == 2


def test_a_record_needs_all_stages() -> None:
    with pytest.raises(ValueError, match="has not passed all stages"):
        to_record(Sample(image_id="0", uri=""))


def test_time_is_booked_by_stage() -> None:
    seconds: dict[str, float] = {}
    fakes.build_all(seconds)(samples(255))
    assert set(seconds) == {"decode", "tag", "detect", "suppress", "segment"}
    assert all(value > 0 for value in seconds.values())


def region(tag: str, *bbox: float, **changes) -> GivenRegion:
    return GivenRegion(tag, bbox, **changes)  # pyright: ignore[reportArgumentType]


def test_given_boxes_become_regions_in_their_order_without_tagger_and_detector() -> None:
    batch = samples(255, 255, 0)
    batch[0].regions = (
        region("cat", 4, 4, 8, 8, score=0.25),
        region("dog", 4, 4, 8, 9),
        region("dog", 0.5, 0.5, 1, 1, is_relative=True),
    )
    batch[1].regions = ()
    batch[2].regions = (region("cat", 0, 0, 2, 2),)
    chain = Chain(
        [
            tag_stage(None, **options()),
            detect_stage(None, **options()),
            suppress_stage(SuppressConfig(), {}),
            segment_stage(fakes.FakeSegmenter(), **options()),
        ]
    )
    first, none, last = [to_record(sample) for sample in chain(batch)]
    assert [(one.tag, one.score, one.bbox, one.origin) for one in first.labels] == [
        ("cat", 0.25, (4, 4, 8, 8), "boxes"),
        ("dog", 1.0, (4, 4, 8, 9), "boxes"),
        ("dog", 1.0, (16, 12, 32, 24), "boxes"),
    ]
    assert [(tag.tag, tag.score, tag.origin) for tag in first.tags] == [
        ("cat", 0.25, "boxes"),
        ("dog", 1.0, "boxes"),
    ]
    assert (none.status, none.width, none.tags) == ("empty", 32, ())
    assert [one.tag for one in last.labels] == ["cat"]


def test_given_boxes_are_suppressed_where_that_is_asked_for() -> None:
    batch = samples(255)
    batch[0].regions = (region("cat", 4, 4, 8, 8, score=0.25), region("dog", 4, 4, 8, 9))
    detect_stage(None, **options())(batch)
    suppress_stage(SuppressConfig(given_boxes=True), {})(batch)
    assert batch[0].boxes is not None
    assert batch[0].boxes.labels == ("dog",)
    assert [one.tag for one in batch[0].regions] == ["dog"]


def test_given_masks_need_no_segmenter() -> None:
    batch = samples(255)
    square = (4.0, 4.0, 8.0, 4.0, 8.0, 8.0, 4.0, 8.0)
    batch[0].regions = (region("cat", 4, 4, 8, 8, polygons=(square,)),)
    stages = [detect_stage(None, masks=True, **options()), segment_stage(None, **options())]
    [record] = [to_record(sample) for sample in Chain(stages)(batch)]
    [label] = record.labels
    assert (label.area, label.predicted_iou, label.origin) == (16, 1.0, "masks")


def test_given_boxes_outside_the_image_are_named_and_the_rest_stays(caplog) -> None:
    batch = samples(255)
    batch[0].regions = (region("cat", 40, 4, 48, 8), region("dog", 4, 4, 8, 9))
    detect_stage(None, **options())(batch)
    assert batch[0].boxes is not None
    assert batch[0].boxes.labels == ("dog",)
    assert "box 1 of 0 lies outside the image of 32x24 pixels" in caplog.text


def test_classes_and_boxes_of_single_images_beside_the_models() -> None:
    tagger = fakes.FakeTagger()
    batch = samples(255, 255, 255)
    batch[0].classes = ("red car",)
    batch[1].regions = (region("cat", 4, 4, 8, 8),)
    tag_stage(tagger, **options())(batch)
    assert tagger.calls == [1]
    assert [[(t.tag, t.origin) for t in sample.tags] for sample in batch] == [
        [("red car", "classes")],
        [("cat", "boxes")],
        [("sky", "model"), ("sun hat", "model")],
    ]
    detect_stage(fakes.FakeDetector(), **options())(batch)
    assert [sample.boxes and sample.boxes.labels for sample in batch] == [
        ("red car", "red car"),
        ("cat",),
        ("sky", "sky", "sun hat"),
    ]


def test_tags_of_several_origins_are_detected_once() -> None:
    batch = samples(255)
    batch[0].column_tags = ("sky", "moon")
    tag_stage(fakes.FakeTagger(), GivenTags(("column", "model")), **options())(batch)
    assert [(t.tag, t.score, t.origin) for t in batch[0].tags] == [
        ("sky", 1.0, "column"),
        ("moon", 1.0, "column"),
        ("sky", 1.0, "model"),
        ("sun hat", 0.5, "model"),
    ]
    asked = []

    class Detector(fakes.FakeDetector):
        def detect(self, images, tags):
            asked.extend(tags)
            return super().detect(images, tags)

    detect_stage(Detector(), **options())(batch)
    assert asked == [["sky", "moon", "sun hat"]]


def test_an_image_for_which_no_model_is_there_fails_with_the_reason() -> None:
    [sample] = tag_stage(None, **options())(samples(255))
    assert sample.error is not None
    assert sample.error.message == "no tagger is loaded, and no classes or boxes are given"
