"""The patch loss against recorded values, a loop written from equation 5, and autograd."""

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
from pad_pipeline.train.choices import PatchLossKind
from pad_pipeline.train.patch_loss import TEMPERATURE, patch_loss
from tests.golden_data import golden_dir

KINDS: list[PatchLossKind] = ["region", "patch", "contrastive"]


def example(
    images=3, regions=4, tokens=9, width=6, seed=0, dtype=torch.float64
) -> tuple[Tensor, Tensor, Tensor, Tensor]:
    """Random inputs in which some regions are padding and some cover no token by half."""
    make = torch.Generator().manual_seed(seed)
    tokens_IPD = torch.randn(images, tokens, width, generator=make, dtype=dtype)
    labels_IRD = torch.randn(images, regions, width, generator=make, dtype=dtype)
    coverage_IRP = torch.rand(images, regions, tokens, generator=make) ** 2
    coverage_IRP[torch.rand(images, regions, generator=make) < 0.2] *= 0.4
    return tokens_IPD, labels_IRD, coverage_IRP, torch.rand(images, regions, generator=make) < 0.8


def loop_of_equation_5(tokens, labels, coverage, real, best_patch=False, per_patch=False):
    """Region after region in Python's own numbers: (per-image losses, cosines, regions dropped)."""
    losses, cosines, dropped = [], [], 0
    for image in range(len(tokens)):
        own = []
        for region in range(coverage.shape[1]):
            if not real[image, region]:
                continue
            share = coverage[image, region].tolist()
            chosen = [i for i, value in enumerate(share) if value >= 0.5]
            if not chosen and best_patch and max(share) > 0:
                chosen = [share.index(max(share))]
            if not chosen:
                dropped += 1
                continue
            t = labels[image, region].tolist()
            v = [tokens[image, i].tolist() for i in chosen]
            mean = [sum(column) / len(v) for column in zip(*v, strict=True)]
            cosines.append(cosine(mean, t))
            own.append(sum(cosine(row, t) for row in v) / len(v) if per_patch else cosines[-1])
        if own:
            losses.append(1 - sum(own) / len(own))
    return losses, cosines, dropped


def cosine(a, b) -> float:
    return sum(x * y for x, y in zip(a, b, strict=True)) / (math.hypot(*a) * math.hypot(*b))


def golden() -> tuple[list[dict], dict[str, Tensor]]:
    folder = golden_dir("analysis")
    cases = json.loads((folder / "patch_loss.json").read_text())["cases"]
    return cases, load_file(folder / "patch_loss.safetensors")


def golden_inputs(arrays, name: str, part: slice = slice(None)):
    keys = ("tokens", "label_embeds", "coverage", "region_is_real")
    return tuple(arrays[f"{name}.{key}"][part].clone() for key in keys)


@pytest.mark.parametrize("dtype", [torch.float64, torch.float32])
@pytest.mark.parametrize("best_patch", [False, True])
def test_golden_values_and_gradients(best_patch: bool, dtype: torch.dtype):
    tolerance = 1e-12 if dtype == torch.float64 else 2e-6
    cases, arrays = golden()
    assert cases
    for case in cases:
        tokens, labels, coverage, real = golden_inputs(arrays, case["name"])
        tokens = tokens.to(dtype).requires_grad_()
        found = patch_loss(tokens, labels.to(dtype), coverage, real, best_patch=best_patch)
        expected = case["with_best_covered_patch"] if best_patch else case
        assert found.mean.item() == pytest.approx(expected["loss"], abs=tolerance), case["name"]
        assert found.num_images.item() == expected["images_with_regions"]
        assert found.num_regions.item() == expected["regions_used"]
        assert found.num_dropped.item() == case["regions_given"] - expected["regions_used"]
        if not best_patch and case["cosine_mean_over_regions"] is not None:
            cosine_mean = case["cosine_mean_over_regions"]
            found_mean = found.cosine_total.item() / max(found.num_regions.item(), 1)
            assert found_mean == pytest.approx(cosine_mean, abs=tolerance)
        found.mean.backward()
        suffix = "_best_covered_patch" if best_patch else ""
        gradient = arrays[f"{case['name']}.grad_tokens{suffix}"].to(dtype)
        torch.testing.assert_close(tokens.grad, gradient, rtol=tolerance, atol=tolerance)


def test_golden_per_image_losses():
    cases, arrays = golden()
    for case in cases:
        for image, expected in enumerate(case["per_image"]):
            part = slice(image, image + 1)
            found = patch_loss(*golden_inputs(arrays, case["name"], part))
            assert found.num_images.item() == (expected is not None)
            assert found.total.item() == pytest.approx(expected or 0.0, abs=1e-12)


def test_golden_workers_add_up_whatever_their_number():
    cases, arrays = golden()
    divided = [case for case in cases if "workers" in case]
    assert divided
    for case in divided:
        assert_workers_add_up(case, arrays)


def assert_workers_add_up(case: dict, arrays: dict[str, Tensor]) -> None:
    num_workers = len(case["workers"])
    size, rest = divmod(len(arrays[f"{case['name']}.tokens"]), num_workers)
    assert not rest
    parts = [
        patch_loss(*golden_inputs(arrays, case["name"], slice(size * i, size * (i + 1))))
        for i in range(num_workers)
    ]
    for part, expected in zip(parts, case["workers"], strict=True):
        assert part.total.item() == pytest.approx(expected["sum_of_image_losses"], abs=1e-12)
        assert part.num_images.item() == expected["images_with_regions"]
        assert part.mean.item() == pytest.approx(expected["mean_on_its_own"], abs=1e-12)
    together = sum(p.total.item() for p in parts) / sum(p.num_images.item() for p in parts)
    assert together == pytest.approx(case["loss"], abs=1e-12)
    wrong = sum(part.mean.item() for part in parts) / num_workers
    assert wrong == pytest.approx(case["mean_of_worker_means_is_wrong"], abs=1e-12)


@settings(max_examples=60, deadline=None)
@given(st.integers(0, 10**6), st.booleans(), st.booleans())
def test_equals_the_loop(seed: int, best_patch: bool, per_patch: bool):
    inputs = example(seed=seed)
    kind: PatchLossKind = "patch" if per_patch else "region"
    found = patch_loss(*inputs, kind=kind, best_patch=best_patch)
    losses, cosines, dropped = loop_of_equation_5(*inputs, best_patch, per_patch)
    assert found.total.item() == pytest.approx(sum(losses), abs=1e-12)
    assert found.cosine_total.item() == pytest.approx(sum(cosines), abs=1e-12)
    counts = (found.num_images.item(), found.num_regions.item(), found.num_dropped.item())
    assert counts == (len(losses), len(cosines), dropped)


@pytest.mark.parametrize("best_patch", [False, True])
@pytest.mark.parametrize("kind", KINDS)
def test_gradients_in_float64(kind, best_patch: bool):
    tokens, labels, coverage, real = example(images=2, regions=3, tokens=5, width=4, seed=3)
    labels[1, 0] = labels[0, 0]

    def loss(tokens_IPD, labels_IRD):
        return patch_loss(
            tokens_IPD, labels_IRD, coverage, real, kind=kind, best_patch=best_patch
        ).mean

    assert torch.autograd.gradcheck(loss, (tokens.requires_grad_(), labels.requires_grad_()))


@pytest.mark.parametrize("shape", [(0, 4), (3, 0), (3, 4)])
@pytest.mark.parametrize("kind", KINDS)
def test_nothing_to_align_is_zero_with_a_zero_gradient(kind, shape):
    images, regions = shape
    tokens, labels, coverage, real = example(images=images, regions=regions)
    tokens.requires_grad_()
    labels[:] = torch.nan  # what stands in padding must not matter
    found = patch_loss(tokens, labels, coverage, torch.zeros_like(real), kind=kind)
    assert found.total.item() == found.mean.item() == found.cosine_total.item() == 0.0
    found.mean.backward()
    assert tokens.grad is not None
    assert torch.equal(tokens.grad, torch.zeros_like(tokens))


def test_padding_does_not_matter():
    tokens, labels, coverage, real = example(seed=5)
    expected = [patch_loss(tokens, labels, coverage, real, kind=kind).total for kind in KINDS]
    labels[~real], coverage[~real] = torch.nan, 1.0
    for kind, value in zip(KINDS, expected, strict=True):
        assert torch.equal(patch_loss(tokens, labels, coverage, real, kind=kind).total, value)


def test_bfloat16_tokens_are_computed_in_float32_even_under_autocast():
    tokens, labels, coverage, real = example(images=2, tokens=64, width=32, dtype=torch.bfloat16)
    tokens.requires_grad_()
    exact = patch_loss(tokens.double(), labels.double(), coverage, real)
    with torch.autocast("cpu", dtype=torch.bfloat16):
        found = patch_loss(tokens, labels, coverage, real)
    assert found.total.dtype == torch.float32
    assert found.total.item() == pytest.approx(exact.total.item(), abs=1e-5)
    found.mean.backward()
    assert tokens.grad is not None
    assert tokens.grad.dtype == torch.bfloat16


@pytest.mark.parametrize("kind", KINDS)
def test_a_mean_of_length_zero_has_cosine_zero_and_a_finite_gradient(kind):
    tokens = torch.zeros(1, 4, 3, requires_grad=True)
    found = patch_loss(
        tokens, torch.ones(1, 1, 3), torch.ones(1, 1, 4), torch.ones(1, 1, dtype=torch.bool),
        kind=kind,
    )  # fmt: skip
    assert found.cosine_total.item() == 0.0
    found.mean.backward()
    assert tokens.grad is not None
    assert tokens.grad.isfinite().all()
    assert tokens.grad.norm() < 2


def test_half_a_token_counts_and_the_first_best_is_taken():
    tokens = torch.eye(3, dtype=torch.float64).unsqueeze(0)
    label = torch.eye(3, dtype=torch.float64)[None, :1]
    real = torch.ones(1, 1, dtype=torch.bool)
    half = torch.tensor([[[0.5, 0.49, 0.0]]], dtype=torch.float64)
    assert patch_loss(tokens, label, half, real).total.item() == 0.0
    best = torch.tensor([[[0.4, 0.4, 0.1]]], dtype=torch.float64)
    assert patch_loss(tokens, label, best, real).num_dropped.item() == 1
    assert patch_loss(tokens, label, best, real, best_patch=True).total.item() == 0.0
    nothing = torch.zeros(1, 1, 3, dtype=torch.float64)
    assert patch_loss(tokens, label, nothing, real, best_patch=True).num_dropped.item() == 1


def test_contrastive_equals_a_loop_and_same_labels_are_no_negatives():
    tokens, labels, coverage, real = example(seed=8)
    labels[0, 1:] = labels[1, 2] = 3 * labels[0, 0]  # one direction is one label
    means, names, places = [], [], []
    for image in range(3):
        for region in range(4):
            chosen = coverage[image, region] >= 0.5
            if real[image, region] and chosen.any():
                means.append(tokens[image, chosen].mean(dim=0))
                names.append(labels[image, region])
                places.append(image)
    unit = torch.nn.functional.normalize
    v, t = unit(torch.stack(means), dim=-1), unit(torch.stack(names), dim=-1)
    per_image: dict[int, list[float]] = {}
    num_left_out = 0
    for i in range(len(v)):
        others = [j for j in range(len(v)) if j == i or not torch.allclose(t[j], t[i])]
        num_left_out += len(v) - len(others)
        to_labels = torch.stack([v[i] @ t[j] / TEMPERATURE for j in others])
        to_regions = torch.stack([v[j] @ t[i] / TEMPERATURE for j in others])
        target = torch.tensor(others.index(i))
        losses = [torch.nn.functional.cross_entropy(x, target) for x in (to_labels, to_regions)]
        per_image.setdefault(places[i], []).append(float(sum(losses)) / 2)
    expected = sum(sum(values) / len(values) for values in per_image.values())
    found = patch_loss(tokens, labels, coverage, real, kind="contrastive")
    assert num_left_out >= 2
    assert found.total.item() == pytest.approx(expected, abs=1e-10)


def test_another_kind_is_refused():
    with pytest.raises(UserError, match="'cosine'"):
        patch_loss(*example(), kind="cosine")  # pyright: ignore[reportArgumentType]
