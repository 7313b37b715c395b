"""The config of a run: presets, values that are refused, what identifies a run."""

from __future__ import annotations

import dataclasses
import json
from collections.abc import Callable
from dataclasses import replace
from typing import Any

import pytest

from pad_pipeline.engine.config import (
    PRESETS,
    STAGE_NAMES,
    AnnotateConfig,
    DetectConfig,
    PoolConfig,
    SegmentConfig,
    SuppressConfig,
    TagConfig,
    demo,
    fast,
    paper,
    resolve_words,
    sam3,
)
from pad_pipeline.engine.identity import earlier_default, from_manifest, given_of, identity
from pad_pipeline.errors import UserError

MODELS = {"tag": "sha256:1", "detect": "sha256:2", "segment": "sha256:3"}


def with_tag(**changes: Any) -> Callable[[], AnnotateConfig]:
    return lambda: changed(tag=TagConfig(**{"model": "a", **changes}))


def with_detect(**changes: Any) -> Callable[[], AnnotateConfig]:
    return lambda: changed(detect=DetectConfig(model="b", **changes))


def with_pool(**changes: Any) -> Callable[[], AnnotateConfig]:
    return with_tag(pool=PoolConfig(**changes))


def changed(**changes: Any) -> AnnotateConfig:
    values: dict[str, Any] = {
        "tag": TagConfig(model="a"),
        "detect": DetectConfig(model="b"),
        "segment": SegmentConfig(model="c"),
    }
    return AnnotateConfig(**{**values, **changes})


def with_drawn_masks(**changes: Any) -> Callable[[], AnnotateConfig]:
    return lambda: changed(segment=SegmentConfig(model="c", from_="detector"), **changes)


REFUSED: dict[str, tuple[Callable[[], AnnotateConfig], str]] = {
    "given boxes where the detector draws": (
        with_drawn_masks(detect=DetectConfig(model="b", boxes="b.json")),
        "detect.boxes cannot be combined with segment.from_='detector', as no detector runs on th",
    ),
    "predicted IoU of drawn masks": (
        with_drawn_masks(min_predicted_iou=0.5),
        "min_predicted_iou cannot be known with segment.from_='detector', as SAM 3 does not",
    ),
    "quantized segmenter that is none": (
        lambda: changed(segment=SegmentConfig(model="c", from_="detector", quantize="fp8")),
        "segment.quantize='fp8' would not be read with segment.from_='detector'",
    ),
    "box threshold above 1": (
        with_detect(box_threshold=2.0),
        "detect.box_threshold must lie between 0 and 1, not 2.0",
    ),
    "box threshold below 0": (
        with_detect(box_threshold=-0.1),
        "detect.box_threshold must lie between 0 and 1, not -0.1",
    ),
    "box threshold that is no number": (
        with_detect(box_threshold=float("nan")),
        "detect.box_threshold must lie between 0 and 1, not nan",
    ),
    "text threshold": (
        with_detect(text_threshold=1.5),
        "detect.text_threshold must lie between 0 and 1, not 1.5",
    ),
    "overlap": (
        lambda: changed(suppress=SuppressConfig(iou_threshold=50)),
        "suppress.iou_threshold must lie between 0 and 1, not 50",
    ),
    "failed share": (
        lambda: changed(max_failed_share=5.0),
        "max_failed_share must lie between 0 and 1, not 5.0",
    ),
    "tagger's batch": (with_tag(batch_size=0), "tag.batch_size must be at least 1, not 0"),
    "detector's batch": (
        with_detect(batch_size=-1),
        "detect.batch_size must be at least 1, not -1",
    ),
    "segmenter's batch": (
        lambda: changed(segment=SegmentConfig(model="c", batch_size=0)),
        "segment.batch_size must be at least 1, not 0",
    ),
    "boxes at once": (
        lambda: changed(segment=SegmentConfig(model="c", box_batch_size=0)),
        "segment.box_batch_size must be at least 1, not 0",
    ),
    "chunk size": (lambda: changed(chunk_size=0), "chunk_size must be at least 1, not 0"),
    "rows per shard": (
        lambda: changed(rows_per_shard=0),
        "rows_per_shard must be at least 1, not 0",
    ),
    "fused workers": (
        lambda: changed(fused=PoolConfig(min_workers=0)),
        "fused.min_workers must be at least 1, not 0",
    ),
    "bytes of a chunk": (
        lambda: changed(max_chunk_bytes=0),
        "max_chunk_bytes must be at least 1, not 0",
    ),
    "no chunk in flight": (
        lambda: changed(in_flight=0),
        "in_flight must be at least 1, not 0",
    ),
    "pixels": (lambda: changed(max_pixels=0), "max_pixels must be at least 1, not 0"),
    "bytes": (lambda: changed(max_bytes=0), "max_bytes must be at least 1, not 0"),
    "threads": (lambda: changed(threads=-1), "threads must not be negative, not -1"),
    "shard that is no multiple of the chunk": (
        lambda: changed(chunk_size=48, rows_per_shard=100),
        "rows_per_shard=100 is not a multiple of chunk_size=48; 144 is",
    ),
    "no worker": (with_pool(min_workers=0), "tag.pool.min_workers must be at least 1, not 0"),
    "fewer workers at most than at least": (
        with_pool(min_workers=3, max_workers=2),
        "tag.pool.max_workers=2 is less than tag.pool.min_workers=3",
    ),
    "costs of one model": (
        lambda: changed(costs="tag=0.01"),
        "costs must give the seconds per image of all three models",
    ),
    "origin that nobody knows": (
        with_tag(from_="model,clip"),
        "tag.from_ is one of model, classes, captions, column or several of them with commas, not "
        "'model,clip'",
    ),
    "boxes as an origin of tags": (with_tag(from_="boxes"), "tag.from_ is one of model"),
    "classes that nothing reads": (
        lambda: changed(classes="dog", tag=TagConfig(model="a", from_="model")),
        "classes would not be read: leave tag.from_ out or add classes to it",
    ),
    "boxes that nothing reads": (
        with_detect(from_="model", boxes="b.json"),
        "detect.boxes would not be read with detect.from_='model'",
    ),
    "negative words for given boxes": (
        with_detect(from_="boxes", negative="shadow"),
        "detect.negative would not be read: no detector runs on given boxes",
    ),
    "thresholds that are no numbers": (
        lambda: resolve_words(with_detect(thresholds="dog=high")()),
        "detect.thresholds should say a tag and a number from 0 to 1 as in dog=0.4, not 'dog=high'",
    ),
    "two thresholds of one tag": (
        lambda: resolve_words(with_detect(thresholds="dog=0.1, Dog=0.2")()),
        "detect.thresholds has two numbers for 'dog': keep one of them",
    ),
    "no size": (
        lambda: changed(min_area=9, max_area=8),
        "no region can pass: max_area=8 is below min_area=9",
    ),
    "masks without boxes": (
        lambda: changed(segment=SegmentConfig(model="c", from_="masks")),
        "segment.from_='masks' takes the masks of given boxes: add detect.boxes",
    ),
    "costs that are no number": (
        lambda: changed(costs="tag=0.01,detect=fast,segment=1"),
        "not 'tag=0.01,detect=fast,segment=1'",
    ),
    "costs of nothing": (
        lambda: changed(costs="tag=0,detect=1,segment=1"),
        "costs must give the seconds",
    ),
    "negative GPUs": (
        with_pool(gpus=-1.0),
        "tag.pool.gpus must not be negative, not -1.0",
    ),
    "negative CPUs": (
        with_pool(cpus=-0.5),
        "tag.pool.cpus must not be negative, not -0.5",
    ),
}


@pytest.mark.parametrize("case", REFUSED)
def test_values_that_cannot_work_are_refused_by_their_field(case: str) -> None:
    make, message = REFUSED[case]
    with pytest.raises(UserError) as error:
        make()
    assert message in str(error.value)
    assert "--" not in str(error.value)


def test_the_least_and_the_most_that_can_work() -> None:
    config = changed(
        detect=DetectConfig(model="b", box_threshold=0, text_threshold=1, batch_size=1),
        suppress=SuppressConfig(iou_threshold=1),
        chunk_size=1,
        rows_per_shard=1,
        max_failed_share=1,
    )
    assert config.detect.text_threshold == 1


def test_a_config_cannot_be_changed() -> None:
    with pytest.raises(dataclasses.FrozenInstanceError):
        paper().chunk_size = 1  # pyright: ignore[reportAttributeAccessIssue]


def test_the_paper_preset_is_the_papers_chain() -> None:
    config = paper()
    assert config.detect.model == "IDEA-Research/grounding-dino-tiny"
    assert config.segment.model == "facebook/sam-vit-huge"
    assert config.suppress == SuppressConfig(iou_threshold=0.5, per_class=False)
    assert config.detect.label_mode == "span"
    assert set(PRESETS) == {"paper", "fast", "sam3", "demo"}


def test_the_fast_preset_differs_from_the_papers_in_the_segmenter_alone() -> None:
    config = fast()
    assert config.segment.model == "facebook/sam2.1-hiera-large"
    assert replace(config, segment=paper().segment) == paper()
    assert config.segment == replace(paper().segment, model=config.segment.model)


def test_the_sam3_preset_detects_and_segments_by_one_model() -> None:
    config = sam3()
    assert config.models == config.stage_names == ("tag", "detect")
    assert (config.detect.model, config.schema_version) == ("facebook/sam3", 3)
    assert (paper().stage_names, paper().schema_version) == (STAGE_NAMES, 2)
    assert config.tag == paper().tag
    # another segmenter takes its boxes; which one would have been does not matter before that
    apart = replace(config, segment=replace(config.segment, from_="model"))
    assert apart.models == ("tag", "detect", "segment")
    other = replace(config, segment=replace(config.segment, model="other"))
    assert identity(other, {"detect": "1"}) == identity(config, {"detect": "1"})
    assert from_manifest(
        {"identity": identity(config, {"tag": "1", "detect": "2"}), "models": {}}
    ).draws_masks


def test_models_that_are_not_needed() -> None:
    config = changed()
    assert config.models == ("tag", "detect", "segment")
    assert changed(classes="dog, cat").models == ("detect", "segment")
    assert changed(tag=TagConfig(model="a", from_="model,captions")).models == config.models
    given = DetectConfig(model="b", boxes="b.json")
    assert changed(detect=given).models == ("segment",)
    assert changed(detect=given, tag=TagConfig(model="a", from_="model")).models == (
        "tag",
        "segment",
    )
    assert changed(detect=given, segment=SegmentConfig(model="c", from_="masks")).models == ()
    # nor does it matter which model one would have been
    one, other = (changed(classes="dog", tag=TagConfig(model=name)) for name in ("a", "z"))
    assert identity(one, {"detect": "1"}) == identity(other, {"detect": "1"})


def test_origins_of_tags() -> None:
    assert changed().tag_origins == ("model",)
    assert changed(classes="dog").tag_origins == ("classes",)
    both = TagConfig(model="a", from_="captions, model")
    assert changed(tag=both).tag_origins == ("captions", "model")
    assert changed(detect=DetectConfig(model="b", from_="boxes")).tag_origins == ("boxes",)


def test_classes_are_read_from_their_file_once(tmp_path) -> None:
    (tmp_path / "classes.txt").write_text("dog\n red  car\n\nsalt, pepper\n")
    config = resolve_words(changed(classes=str(tmp_path / "classes.txt")))
    assert config.classes == "dog\nred car\nsalt, pepper\n"
    (tmp_path / "classes.txt").unlink()
    assert config.class_names == ("dog", "red car", "salt, pepper")
    assert resolve_words(config) == config


def test_the_demo_preset_needs_nothing_from_outside() -> None:
    config = demo()
    assert {config.tag.model, config.detect.model, config.segment.model} == {"embedded"}


def test_shards_hold_a_few_thousand_rows() -> None:
    for preset in PRESETS.values():
        assert 1000 <= preset().rows_per_shard <= 10_000


WITHOUT_EFFECT = {
    "layout": {"layout": "pools"},
    "fused workers": {"fused": PoolConfig(max_workers=7)},
    "failed share": {"max_failed_share": 0.9},
    "pool of a stage": {"tag": TagConfig(model="a", pool=PoolConfig(max_workers=9, gpus=0.5))},
    "pool of the suppression": {"suppress": SuppressConfig(pool=PoolConfig(cpus=2.0))},
    "costs that size pools": {"costs": "tag=0.1,detect=0.2,segment=0.3"},
    "chunks in flight": {"in_flight": 2},
    "patience with a hanging worker": {"hang_after_s": 60.0},
    "name of a model with the same weights": {"tag": TagConfig(model="elsewhere/a")},
    "where the tags of a source are": {"tag": TagConfig(model="a", column="labels")},
    "what follows from it all": {
        "tag": TagConfig(model="a", from_=" model "),
        "detect": DetectConfig(model="b", from_="model"),
    },
}

WITH_EFFECT = {
    "tagger's batch": {"tag": TagConfig(model="a", batch_size=1)},
    "box threshold": {"detect": DetectConfig(model="b", box_threshold=0.5)},
    "batches of one size": {"detect": DetectConfig(model="b", group_by_size=True)},
    "bytes of a chunk": {"max_chunk_bytes": 10**9},
    "label mode": {"detect": DetectConfig(model="b", label_mode="phrase")},
    "overlap": {"suppress": SuppressConfig(iou_threshold=0.6)},
    "per class": {"suppress": SuppressConfig(per_class=True)},
    "boxes at once": {"segment": SegmentConfig(model="c", box_batch_size=8)},
    "products in 8 bits": {"segment": SegmentConfig(model="c", quantize="fp8")},
    "device": {"device": "cuda"},
    "dtype": {"dtype": "bfloat16"},
    "compilation": {"compile": True},
    "threads": {"threads": 3},
    "classes": {"classes": "dog"},
    "negative words": {"detect": DetectConfig(model="b", negative="shadow")},
    "thresholds of tags": {"detect": DetectConfig(model="b", thresholds="dog=0.5")},
    "second detector": {"detect": DetectConfig(model="b", second="c")},
    "quality of masks": {"min_predicted_iou": 0.5},
    "stability of masks": {"min_stability": 0.5},
    "smallest mask": {"min_area": 9},
    "largest mask": {"max_area": 9},
    "given boxes": {"detect": DetectConfig(model="b", from_="boxes")},
    "chunk size": {"chunk_size": 8},
    "rows per shard": {"rows_per_shard": 4096},
    "pixels": {"max_pixels": 1000},
    "bytes": {"max_bytes": 1000},
}


def test_every_field_is_listed_with_an_effect_or_none() -> None:
    named = {name for cases in (WITH_EFFECT, WITHOUT_EFFECT) for c in cases.values() for name in c}
    assert named == {field.name for field in dataclasses.fields(AnnotateConfig)}


@pytest.mark.parametrize("case", WITHOUT_EFFECT)
def test_what_shapes_the_run_alone_is_not_part_of_its_identity(case: str) -> None:
    assert identity(changed(**WITHOUT_EFFECT[case]), MODELS) == identity(changed(), MODELS)


@pytest.mark.parametrize("case", WITH_EFFECT)
def test_what_shapes_the_records_is_part_of_the_identity(case: str) -> None:
    assert identity(changed(**WITH_EFFECT[case]), MODELS) != identity(changed(), MODELS)


def test_the_weights_are_part_of_the_identity() -> None:
    for stage in MODELS:
        other = {**MODELS, stage: "sha256:other"}
        assert identity(changed(), other) != identity(changed(), MODELS)


@pytest.mark.parametrize("name", ["detect.group_by_size", "max_chunk_bytes"])
def test_fields_that_earlier_versions_lacked_stand_for_what_these_did(name: str) -> None:
    assert not earlier_default(name)


def test_a_manifest_gives_the_config_back() -> None:
    """As `retry-failed` needs it: with what is given, and the models by their names."""
    config = resolve_words(
        changed(
            tag=TagConfig(model="a", from_="column,model", column="words"),
            detect=DetectConfig(model="b", second="e", negative="shadow", thresholds="dog=0.5"),
            min_area=9,
        )
    )
    boxes = changed(detect=DetectConfig(model="b", boxes="/b.json", box_format="xywh"))
    for one, models in ((config, ("tag", "detect", "segment", "second")), (boxes, ("segment",))):
        names = {name: getattr(getattr(one, name, None), "model", "e") for name in models}
        manifest = {
            "identity": identity(one, dict.fromkeys(models, "sha256:1")),
            "models": {name: {"model": model} for name, model in names.items()},
            "given": given_of(one),
        }
        again = from_manifest(json.loads(json.dumps(manifest)))
        assert identity(again, dict.fromkeys(models, "sha256:1")) == manifest["identity"]
        assert again.models == one.models
        assert given_of(again) == given_of(one)
        assert again.detect.second == one.detect.second


def test_an_identity_survives_its_way_through_a_file() -> None:
    found = identity(demo(), MODELS)
    assert json.loads(json.dumps(found)) == found
