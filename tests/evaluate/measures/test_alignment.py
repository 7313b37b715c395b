"""Thresholds, Align and the cosine against recorded values and definitions tried one by one."""

from __future__ import annotations

import json
import math

import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st
from safetensors.torch import load_file
from torch import Tensor

from pad_pipeline.errors import UserError
from pad_pipeline.evaluate.measures.alignment import (
    THRESHOLDS,
    AlignmentMeter,
    CosineMeter,
    Threshold,
    choose_thresholds,
    otsu,
    similarity_maps,
)
from pad_pipeline.train.patch_loss import patch_loss
from tests.golden_data import golden_dir

GOLDEN_NAMES: dict[Threshold, str] = {
    "otsu": "otsu",
    "mean-sigma": "mean_plus_1_std",
    "quantile": "quantile_0.9",
    "oracle": "oracle",
}


def golden_images():
    """(case, image number, tokens, labels, covered, the records of its regions)."""
    folder = golden_dir("analysis")
    arrays = load_file(folder / "align.safetensors")
    for case in json.loads((folder / "align.json").read_text())["cases"]:
        for number, records in enumerate(case["images"]):
            name = case["name"]
            tokens = arrays[f"{name}.tokens"][number]
            covered = arrays[f"{name}.coverage{number}"] >= 0.5
            yield case, number, tokens, arrays[f"{name}.label_embeds{number}"], covered, records


def test_golden_otsu():
    golden = json.loads((golden_dir("analysis") / "otsu.json").read_text())
    assert len(golden["cases"]) == golden["num_cases"] > 0
    for case in golden["cases"]:
        values = torch.tensor([case["values"]], dtype=torch.float64)
        assert otsu(values).item() == case["otsu_raw"], case["name"]
        threshold = choose_thresholds(values, torch.zeros_like(values).bool(), "otsu")
        assert threshold.item() == case["threshold"], case["name"]
        predicted = (values > threshold)[0].nonzero().squeeze(-1)
        assert predicted.tolist() == case["predicted"], case["name"]


def test_golden_regions():
    arrays = load_file(golden_dir("analysis") / "align.safetensors")
    num_regions = num_kept = 0
    for case, number, tokens, labels, covered, records in golden_images():
        found = AlignmentMeter().add(tokens, labels, covered)
        kept = [record for record in records if not record["dropped"]]
        num_kept += len(kept)
        assert found.kept_R.tolist() == [record["region"] for record in kept]
        for place, record in enumerate(kept):
            expected = arrays[f"{case['name']}.similarity{number}.{record['region']}"]
            torch.testing.assert_close(found.similarity_RP[place], expected, rtol=0, atol=1e-12)
            assert int(covered[record["region"]].sum()) == record["num_patches"]
            for rule, name in GOLDEN_NAMES.items():
                one = found.by_threshold[rule]
                assert one.iou_R[place].item() == pytest.approx(record["iou"][name], abs=1e-12)
                assert one.threshold_R[place].item() == pytest.approx(record[name], abs=1e-12)
            predicted = found.by_threshold["otsu"].predicted_RP[place]
            assert int(predicted.sum()) == record["num_predicted"]
            num_regions += 1
    assert num_regions == num_kept > 0


def test_golden_align_over_images():
    meters: dict[str, tuple[dict, AlignmentMeter]] = {}
    for case, _, tokens, labels, covered, _ in golden_images():
        _, meter = meters.setdefault(case["name"], (case, AlignmentMeter()))
        meter.add(tokens, labels, covered)
    assert meters
    for case, meter in meters.values():
        assert meter.num_regions == case["num_regions_used"]
        assert meter.num_images == len(case["images"])
        assert meter.num_dropped == sum(r["dropped"] for image in case["images"] for r in image)
        assert meter.value == meter.by_threshold["otsu"]
        for rule, name in GOLDEN_NAMES.items():
            assert meter.by_threshold[rule] == pytest.approx(case["align"][name], abs=1e-12)


def otsu_by_definition(values: list[float]) -> float:
    best, threshold = -1.0, values[0]
    for u in sorted(set(values))[:-1]:
        low, high = [x for x in values if x <= u], [x for x in values if x > u]
        distance = sum(low) / len(low) - sum(high) / len(high)
        between = len(low) * len(high) / len(values) ** 2 * distance**2
        if between > best * (1 + 1e-12):
            best, threshold = between, u
    return threshold


maps = st.lists(st.integers(-8, 8).map(lambda x: x / 8), min_size=1, max_size=24)


@given(maps)
def test_otsu_by_definition(values: list[float]):
    # Rows beside each other must not disturb each other.
    rows = torch.tensor([values, [1.0] * len(values), values[::-1]], dtype=torch.float64)
    expected = otsu_by_definition(values)
    assert otsu(rows).tolist() == [expected, 1.0, expected]


@given(st.floats(-1, 1), st.floats(0.001, 1))
def test_otsu_takes_the_lower_of_tied_splits_wherever_they_lie(middle: float, step: float):
    values = torch.tensor([[middle - step, middle, middle + step]], dtype=torch.float64)
    assert otsu(values).item() == values[0, 0].item()


@settings(max_examples=100)
@given(maps, st.integers(0, 2**24 - 1), st.floats(0, 1))
def test_every_threshold_by_definition(values: list[float], bits: int, quantile: float):
    similarity = torch.tensor([values], dtype=torch.float64)
    covered = torch.tensor([[bool(bits >> place & 1) for place in range(len(values))]])
    chosen = {
        rule: choose_thresholds(similarity, covered, rule, sigmas=0.5, quantile=quantile).item()
        for rule in THRESHOLDS
    }
    mean = sum(values) / len(values)
    deviation = math.sqrt(sum((x - mean) ** 2 for x in values) / len(values))
    assert chosen["mean-sigma"] == pytest.approx(max(0, mean + 0.5 * deviation), abs=1e-12)
    expected = torch.quantile(similarity[0], quantile).item()
    assert chosen["quantile"] == pytest.approx(max(0, expected), abs=1e-12)

    def iou(threshold: float) -> float:
        found = {place for place, x in enumerate(values) if x > threshold}
        truth = set(covered[0].nonzero().squeeze(-1).tolist())
        return len(found & truth) / max(len(found | truth), 1)

    candidates = sorted({0.0, *(x for x in values if x > 0)})
    best = max(map(iou, candidates))
    assert chosen["oracle"] == next(c for c in candidates if iou(c) == best)


def random_image(seed=0, tokens=16, regions=5, width=6) -> tuple[Tensor, Tensor, Tensor]:
    make = torch.Generator().manual_seed(seed)
    covered = torch.rand(regions, tokens, generator=make) > 0.7
    covered[1] = False
    return (
        torch.randn(tokens, width, generator=make),
        torch.randn(regions, width, generator=make),
        covered,
    )


def test_cosine_is_that_of_the_patch_loss():
    meter, total, count = CosineMeter(), 0.0, 0
    for seed in range(4):
        tokens, labels, covered = random_image(seed)
        cosines = meter.add(tokens, labels, covered)
        loss = patch_loss(
            tokens[None].double(), labels[None].double(), covered[None].double(),
            torch.ones(1, len(labels), dtype=torch.bool),
        )  # fmt: skip
        assert cosines.isnan().tolist() == (~covered.any(dim=-1)).tolist()
        total += loss.cosine_total.item()
        count += int(loss.num_regions)
    assert (meter.num_regions, meter.num_dropped) == (count, 4)
    assert meter.value == pytest.approx(total / count, abs=1e-12)


def test_meters_keep_no_tokens():
    align, cosine = AlignmentMeter(), CosineMeter()
    for seed in range(3):
        align.add(*random_image(seed))
        cosine.add(*random_image(seed))
    held = [*vars(align).values(), *vars(cosine).values(), *align._iou_total.values()]
    assert not any(isinstance(value, Tensor | list) for value in held)


def test_zero_vectors_have_similarity_zero():
    tokens, labels, _ = random_image()
    tokens[3], labels[2] = 0, 0
    similarity = similarity_maps(tokens, labels)
    assert similarity.isfinite().all()
    assert similarity[:, 3].abs().max() == similarity[2].abs().max() == 0


def test_an_image_without_regions_counts_as_an_image_alone():
    meter = AlignmentMeter()
    found = meter.add(torch.randn(9, 4), torch.zeros(0, 4), torch.zeros(0, 9, dtype=torch.bool))
    assert found.by_threshold["otsu"].iou_R.shape == (0,)
    assert (meter.num_images, meter.num_regions) == (1, 0)


@pytest.mark.parametrize("meter", [AlignmentMeter, CosineMeter])
def test_bad_input_is_named(meter):
    tokens, labels, covered = random_image()
    with pytest.raises(UserError, match="none of the 0 regions"):
        _ = meter().value
    with pytest.raises(UserError, match="the projected tokens hold NaN"):
        meter().add(tokens.index_fill(0, torch.tensor([2]), math.nan), labels, covered)
    with pytest.raises(UserError, match="the label embeddings hold NaN"):
        meter().add(tokens, labels.index_fill(0, torch.tensor([2]), math.inf), covered)
    with pytest.raises(UserError, match="the label embeddings are 3 wide where 6"):
        meter().add(tokens, labels[:, :3], covered)


def test_bad_rules_are_named():
    with pytest.raises(UserError, match=r"'median'.*otsu, mean-sigma, quantile, oracle"):
        AlignmentMeter("median")  # pyright: ignore[reportArgumentType]
    with pytest.raises(UserError, match="between 0 and 1"):
        AlignmentMeter("quantile", quantile=90)
    nothing = torch.zeros(1, 2)
    with pytest.raises(UserError, match="'median'"):
        choose_thresholds(nothing, nothing > 0, "median")  # pyright: ignore[reportArgumentType]
