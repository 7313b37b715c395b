"""Captions against references: METEOR, ROUGE-L, CIDEr and BLEU as pycocoevalcap gives them."""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np
from numpy.typing import NDArray

from pad_pipeline.errors import UserError
from pad_pipeline.evaluate.scoring.caption_tokens import tokenize
from pad_pipeline.evaluate.scoring.java import metrics_folder
from pad_pipeline.evaluate.scoring.meteor import meteor
from pad_pipeline.evaluate.scoring.scores import Metric, Resampled, Scores, mean_metric
from pad_pipeline.evaluate.scoring.spice import spice

_ORDERS = (1, 2, 3, 4)


def score_captions(
    candidates: Sequence[str],
    references: Sequence[Sequence[str]],
    *,
    spice_home: str | None = None,
) -> Scores:
    """The scores of N captions, each against one or more references.

    METEOR and BLEU are corpus scores; ROUGE-L (β = 1.2) and CIDEr (document frequencies of these
    references) are means over the captions. Raises `UserError` without Java or pycocoevalcap.
    """
    metrics_folder()
    from pycocoevalcap.bleu.bleu import Bleu
    from pycocoevalcap.cider.cider import Cider
    from pycocoevalcap.rouge.rouge import Rouge

    flat = iter(tokenize([text for several in references for text in several]))
    truth = [[next(flat) for _ in several] for several in references]
    if not any(text for several in truth for text in several):
        raise UserError("none of the references has a word; captions are compared word by word")
    found = tokenize(candidates)
    by_place = dict(enumerate(truth))
    candidate_of = {place: [text] for place, text in enumerate(found)}

    meteor_metric, meteor_N = meteor(found, truth)
    _, rouge_N = Rouge().compute_score(by_place, candidate_of)
    _, cider_N = Cider().compute_score(by_place, candidate_of)
    bleu, bleu_4N = Bleu(4).compute_score(by_place, candidate_of, verbose=0)
    sums_NK = _bleu_statistics(found, truth)
    metrics = {
        "METEOR": meteor_metric,
        "ROUGE_L": mean_metric(rouge_N),
        "CIDEr": mean_metric(cider_N),
        **{f"Bleu_{n}": Metric(bleu[n - 1], _resampled_bleu(sums_NK, n)) for n in _ORDERS},
    }
    per_sample = {
        "METEOR": meteor_N,
        "ROUGE_L": rouge_N,
        "CIDEr": cider_N,
        **{f"Bleu_{n}": np.array(bleu_4N[n - 1]) for n in _ORDERS},
    }
    not_measured = {}
    measured = spice(found, truth, spice_home)
    if isinstance(measured, str):
        not_measured["SPICE"] = measured
    else:
        metrics["SPICE"], per_sample["SPICE"] = mean_metric(measured), measured
    return Scores(main="METEOR", metrics=metrics, per_sample=per_sample, not_measured=not_measured)


def _bleu_statistics(
    candidates: Sequence[str], references: Sequence[Sequence[str]]
) -> NDArray[np.float64]:
    """(N, 10): tokens, tokens of the closest reference, then guessed and right n-grams, 1 to 4."""
    from pycocoevalcap.bleu.bleu_scorer import cook_refs, cook_test

    rows = []
    for candidate, several in zip(candidates, references, strict=True):
        counted = cook_test(candidate, cook_refs(several), eff="closest")
        rows.append([counted["testlen"], counted["reflen"], *counted["guess"], *counted["correct"]])
    return np.array(rows, np.float64).reshape(-1, 2 + 2 * len(_ORDERS))


def _resampled_bleu(sums_NK: NDArray[np.float64], order: int) -> Resampled:
    small, tiny = 1e-9, 1e-15  # pycocoevalcap's

    def resampled(draws_RN: NDArray[np.int64]) -> NDArray[np.float64]:
        sums_RK = draws_RN @ sums_NK
        length_R, closest_R = sums_RK[:, 0], sums_RK[:, 1]
        guessed_Rn, right_Rn = sums_RK[:, 2 : 2 + order], sums_RK[:, 6 : 6 + order]
        precision_R = np.prod((right_Rn + tiny) / (guessed_Rn + small), axis=1) ** (1 / order)
        ratio_R = (length_R + tiny) / (closest_R + small)
        return precision_R * np.exp(np.minimum(0, 1 - 1 / ratio_R))

    return resampled
