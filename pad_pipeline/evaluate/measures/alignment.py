"""Whether a label's word embedding finds the patches of its region (paper, equations 3 and 4).

Shapes: P projected tokens of one image, R its regions, D width of the LLM. `covered_RP` is true
where a region's mask covers at least half of the token's area; a region without such a token is
dropped, and counted.
"""

from __future__ import annotations

import math
from dataclasses import dataclass
from typing import Literal, NoReturn, get_args

import torch
from torch import Tensor

from pad_pipeline.errors import UserError
from pad_pipeline.evaluate.measures.checks import check_vectors

Threshold = Literal["otsu", "mean-sigma", "quantile", "oracle"]
"""How the adaptive threshold c of equation 3 is chosen from a region's similarity map.

- "otsu": splits the map's values best into two classes, tried at every distinct value;
- "mean-sigma": mean + SIGMAS population standard deviations;
- "quantile": the QUANTILE quantile, linear between values;
- "oracle": the one of 0 and the positive values with the best IoU, what any threshold could do.

All are clamped above 0, as the paper asks for c > 0. The paper does not say which rule it used.
"""
THRESHOLDS: tuple[Threshold, ...] = get_args(Threshold)
SIGMAS = 1.0
QUANTILE = 0.9


# --- one image -------------------------------------------------------------------------------


def similarity_maps(tokens_PD: Tensor, label_embeds_RD: Tensor) -> Tensor:
    """(R, P) float64: cos(t_p, v_i), −1 to 1, and 0 where a vector is zero.

    Raises `UserError` for NaN, infinity and widths that differ.
    """
    check_vectors(tokens_PD, "the projected tokens")
    check_vectors(label_embeds_RD, "the label embeddings", tokens_PD.shape[1])
    exact_PD = tokens_PD.detach().double()
    length_P = torch.linalg.vector_norm(exact_PD, dim=-1)
    product_RP = _unit(label_embeds_RD.to(tokens_PD.device)) @ exact_PD.T
    return product_RP / torch.where(length_P > 0, length_P, 1)


def choose_thresholds(
    similarity_RP: Tensor,
    covered_RP: Tensor,
    threshold: Threshold,
    *,
    sigmas: float = SIGMAS,
    quantile: float = QUANTILE,
) -> Tensor:
    """(R,) the threshold of every map, at least 0; a patch is predicted where it lies above.

    Only "oracle" reads `covered_RP`. Raises `UserError` for another rule.
    """
    match threshold:
        case "otsu":
            chosen_R = otsu(similarity_RP)
        case "mean-sigma":
            mean_R1 = similarity_RP.mean(dim=-1, keepdim=True)
            sigma_R = (similarity_RP - mean_R1).square().mean(dim=-1).sqrt()
            chosen_R = mean_R1.squeeze(-1) + sigmas * sigma_R
        case "quantile":
            place = quantile * (similarity_RP.shape[-1] - 1)
            sorted_RP = similarity_RP.sort(dim=-1).values
            low_R, high_R = sorted_RP[:, math.floor(place)], sorted_RP[:, math.ceil(place)]
            chosen_R = torch.lerp(low_R, high_R, place % 1)
        case "oracle":
            chosen_R = _oracle(similarity_RP, covered_RP)
        case _:
            _refuse(threshold)
    return chosen_R.clamp(min=0)


def otsu(values_RP: Tensor) -> Tensor:
    """(R,) the value u of each row whose split {x ≤ u}, {x > u} has the largest w0·w1·(m0 − m1)².

    Every distinct value but the largest is tried, without a histogram; the lowest of equals is
    taken. A row of one distinct value gives that value. Otsu 1979, equation 14.
    """
    sorted_RP = values_RP.double().sort(dim=-1).values
    num_patches = sorted_RP.shape[-1]
    below_P = torch.arange(1, num_patches, device=sorted_RP.device)
    # About the mean the two classes' sums are s and −s, and the criterion is s² / (n0 · n1).
    centred_RP = sorted_RP - sorted_RP.mean(dim=-1, keepdim=True)
    between_RP = centred_RP.cumsum(dim=-1)[:, :-1] ** 2 / (below_P * (num_patches - below_P))
    between_RP = between_RP.masked_fill(sorted_RP[:, :-1] == sorted_RP[:, 1:], -1.0)
    # The extra column is the fallback; the tolerance lets rounding break no tie.
    between_RP = torch.cat([between_RP, torch.full_like(sorted_RP[:, :1], -0.5)], dim=-1)
    best_R1 = between_RP.amax(dim=-1, keepdim=True)
    first_R = (between_RP >= best_R1 - 1e-12 * best_R1.abs()).int().argmax(dim=-1)
    return sorted_RP.gather(-1, first_R.unsqueeze(-1)).squeeze(-1)


def intersection_over_union(predicted_RP: Tensor, covered_RP: Tensor) -> Tensor:
    """(R,) float64, 0–1, of two sets of patches; 0 where both are empty."""
    both_R = (predicted_RP & covered_RP).sum(dim=-1)
    either_R = (predicted_RP | covered_RP).sum(dim=-1)
    return both_R.double() / either_R.clamp(min=1)


def _oracle(similarity_RP: Tensor, covered_RP: Tensor) -> Tensor:
    """(R,) the lowest of 0 and the positive values with the largest IoU."""
    values_RP, order_RP = similarity_RP.sort(dim=-1)
    # 0 in front as a value of its own, which stands for everything that is not positive.
    values_RP = torch.cat([torch.zeros_like(values_RP[:, :1]), values_RP.clamp(min=0)], dim=-1)
    covered_sorted_RP = covered_RP.gather(-1, order_RP).double()
    covered_sorted_RP = torch.cat(
        [torch.zeros_like(covered_sorted_RP[:, :1]), covered_sorted_RP], dim=-1
    )
    num_covered_R1 = covered_sorted_RP.sum(dim=-1, keepdim=True)
    both_RP = num_covered_R1 - covered_sorted_RP.cumsum(dim=-1)
    num_above_P = torch.arange(values_RP.shape[-1] - 1, -1, -1, device=values_RP.device)
    iou_RP = both_RP / (num_covered_R1 + num_above_P - both_RP).clamp(min=1)
    # Only after the last of equal values does the count above hold.
    last_RP = torch.ones_like(values_RP, dtype=torch.bool)
    last_RP[:, :-1] = values_RP[:, :-1] < values_RP[:, 1:]
    best_R = iou_RP.masked_fill(~last_RP, -1.0).argmax(dim=-1, keepdim=True)
    return values_RP.gather(-1, best_R).squeeze(-1)


def _unit(vectors_ND: Tensor) -> Tensor:
    exact_ND = vectors_ND.detach().double()
    length_N1 = torch.linalg.vector_norm(exact_ND, dim=-1, keepdim=True)
    return exact_ND / torch.where(length_N1 > 0, length_N1, 1)


# --- over images -----------------------------------------------------------------------------


@dataclass(frozen=True, slots=True)
class Localisation:
    """What one rule finds in one image, region by region (dropped ones left out)."""

    threshold_R: Tensor
    """float64, cosine."""
    predicted_RP: Tensor
    """bool."""
    iou_R: Tensor
    """float64, 0–1."""


@dataclass(frozen=True, slots=True)
class ImageAlignment:
    """The maps of one image: of the regions with a covered patch, whose places `kept_R` lists."""

    kept_R: Tensor
    similarity_RP: Tensor
    by_threshold: dict[Threshold, Localisation]


class AlignmentMeter:
    """Align(V, W): the mean IoU over the regions of all images, under every threshold rule.

    `value` is that of the rule `threshold`. Keeps sums and counts alone.
    """

    def __init__(
        self, threshold: Threshold = "otsu", *, sigmas: float = SIGMAS, quantile: float = QUANTILE
    ) -> None:
        if threshold not in THRESHOLDS:
            _refuse(threshold)
        if not 0 <= quantile <= 1:
            raise UserError(f"a quantile lies between 0 and 1, not at {quantile:g}")
        self.threshold: Threshold = threshold
        self.sigmas, self.quantile = sigmas, quantile
        self.num_images = self.num_regions = self.num_dropped = 0
        self._iou_total: dict[Threshold, float] = dict.fromkeys(THRESHOLDS, 0.0)

    def add(self, tokens_PD: Tensor, label_embeds_RD: Tensor, covered_RP: Tensor) -> ImageAlignment:
        """Measure one image and return what was found; `UserError` for NaN or wrong widths."""
        similarity_RP = similarity_maps(tokens_PD, label_embeds_RD)
        assert covered_RP.shape == similarity_RP.shape, (covered_RP.shape, similarity_RP.shape)
        assert covered_RP.dtype == torch.bool, covered_RP.dtype
        covered_RP = covered_RP.to(similarity_RP.device)
        kept_R = covered_RP.any(dim=-1).nonzero().squeeze(-1)
        similarity_RP, covered_RP = similarity_RP[kept_R], covered_RP[kept_R]
        found: dict[Threshold, Localisation] = {}
        for rule in THRESHOLDS:
            threshold_R = choose_thresholds(
                similarity_RP, covered_RP, rule, sigmas=self.sigmas, quantile=self.quantile
            )
            predicted_RP = similarity_RP > threshold_R.unsqueeze(-1)
            iou_R = intersection_over_union(predicted_RP, covered_RP)
            found[rule] = Localisation(threshold_R, predicted_RP, iou_R)
            self._iou_total[rule] += float(iou_R.sum())
        self.num_images += 1
        self.num_regions += len(kept_R)
        self.num_dropped += len(label_embeds_RD) - len(kept_R)
        return ImageAlignment(kept_R, similarity_RP, found)

    @property
    def by_threshold(self) -> dict[Threshold, float]:
        """Align under every rule; `UserError` where no region covered a patch."""
        _check_regions(self.num_regions, self.num_dropped)
        return {rule: total / self.num_regions for rule, total in self._iou_total.items()}

    @property
    def value(self) -> float:
        """Align under the rule `threshold`, 0–1."""
        return self.by_threshold[self.threshold]


class CosineMeter:
    """Mean over the regions of all images of cos(v_p, t_p), v_p the mean of a region's tokens."""

    def __init__(self) -> None:
        self.num_regions = self.num_dropped = 0
        self._total = 0.0

    def add(self, tokens_PD: Tensor, label_embeds_RD: Tensor, covered_RP: Tensor) -> Tensor:
        """(R,) float64: the cosines of one image's regions, NaN where one covers no patch."""
        check_vectors(tokens_PD, "the projected tokens")
        check_vectors(label_embeds_RD, "the label embeddings", tokens_PD.shape[1])
        assert covered_RP.shape == (len(label_embeds_RD), len(tokens_PD)), covered_RP.shape
        covered_RP = covered_RP.to(tokens_PD.device)
        # The direction of a sum is that of the mean.
        sums_RD = covered_RP.double() @ tokens_PD.detach().double()
        labels_RD = _unit(label_embeds_RD.to(tokens_PD.device))
        cosine_R = (_unit(sums_RD) * labels_RD).sum(dim=-1)
        kept_R = covered_RP.any(dim=-1)
        self._total += float(cosine_R[kept_R].sum())
        self.num_regions += int(kept_R.sum())
        self.num_dropped += int((~kept_R).sum())
        return cosine_R.masked_fill(~kept_R, torch.nan)

    @property
    def value(self) -> float:
        """The mean, −1 to 1; `UserError` where no region covered a patch."""
        _check_regions(self.num_regions, self.num_dropped)
        return self._total / self.num_regions


def _check_regions(num_regions: int, num_dropped: int) -> None:
    if num_regions == 0:
        raise UserError(
            f"alignment cannot be measured: none of the {num_dropped:,} regions given covers half "
            "of a patch; give annotated images whose regions are larger"
        )


def _refuse(threshold: object) -> NoReturn:
    raise UserError(f"unknown threshold {threshold!r}; choose one of {', '.join(THRESHOLDS)}")
