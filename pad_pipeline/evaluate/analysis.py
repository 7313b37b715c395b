"""The paper's measures on a trained run: entropy, Align(V, W), cosine, pursuit; with pictures."""

from __future__ import annotations

import copy
import json
import tempfile
from collections.abc import Iterator, Sequence
from dataclasses import asdict, dataclass, field
from functools import partial
from pathlib import Path
from typing import Any

import numpy as np
import torch

from pad_pipeline import storage
from pad_pipeline.errors import Setting, UserError
from pad_pipeline.evaluate.held_out import choose_samples
from pad_pipeline.evaluate.map_pictures import draw_pictures, file_stems
from pad_pipeline.evaluate.maps import ImageMaps, image_maps, write_maps
from pad_pipeline.evaluate.measures.alignment import AlignmentMeter, CosineMeter, Threshold
from pad_pipeline.evaluate.measures.entropy import EntropyMeter, delta_entropy
from pad_pipeline.evaluate.measures.spectrum import Spectrum
from pad_pipeline.evaluate.spectra import measure_spectra, spectra_lines, spectra_to_json
from pad_pipeline.review.choice import ReviewChoice
from pad_pipeline.train.data.batch import Batch
from pad_pipeline.train.data.examples import Example
from pad_pipeline.train.data.loader import Loader
from pad_pipeline.train.model.vlm import VisionLanguageModel
from pad_pipeline.train.regions import covered_tokens
from pad_pipeline.train.run.folder import check_review, read_run
from pad_pipeline.train.run.models import load_finished_model, vision_input

_IMAGES_TOGETHER = 8


@dataclass(frozen=True, slots=True, kw_only=True)
class Measures:
    """What the paper's Tables 1 to 3 report of a projector."""

    num_images: int
    num_regions: int
    num_regions_without_token: int
    entropy_before: float
    entropy_after: float
    delta_entropy: float
    align: float
    align_by_threshold: dict[str, float]
    cosine: float
    threshold: str


@dataclass(frozen=True, slots=True)
class AnalysisReport:
    """The measures, where they were written, and which pictures there are."""

    measures: Measures
    random: Measures
    """Those of an untrained projector of the same shape, on the same images."""
    seen: str
    """Which of the images the run was trained on."""
    output: str
    pictures: list[str] = field(default_factory=list)
    spectra: dict[str, Spectrum | None] | None = None

    def lines(self) -> list[str]:
        """The report as a table."""
        m, random = self.measures, self.random
        return [
            f"images             {m.num_images:,}, {m.num_regions:,} regions "
            f"({m.num_regions_without_token:,} more cover no token)",
            f"seen in training   {self.seen}",
            f"H before           {m.entropy_before:.4f}",
            f"H after            {m.entropy_after:.4f}",
            f"delta H            {m.delta_entropy:.4f}  (random projector: "
            f"{random.delta_entropy:.4f})",
            f"Align(V, W)        {m.align:.4f}  (random projector: {random.align:.4f}; "
            f"threshold: {m.threshold})",
            f"cosine similarity  {m.cosine:.4f}  (random projector: {random.cosine:.4f})",
            *(spectra_lines(self.spectra) if self.spectra is not None else ()),
            f"wrote {storage.join(self.output, 'analysis.json')}"
            + (f" and {len(self.pictures)} pictures" if self.pictures else ""),
        ]


@torch.no_grad()
def measure(
    model: VisionLanguageModel, batches: Iterator[Batch], threshold: Threshold = "otsu"
) -> Measures:
    """The measures over `batches`, one after the other; no tokens are kept.

    Entropy is that of all tokens before and after the projector (paper, definition 3.1), Align and
    cosine are means over all regions that cover a token (equations 3 to 5).
    """
    before, after = EntropyMeter(), EntropyMeter()
    align, cosine, num_images = AlignmentMeter(threshold), CosineMeter(), 0
    for batch in batches:
        batch = batch.to(model.device)
        patches_ISV = model.encode(batch.pixels_ICHW)
        tokens_IPD = model.project(patches_ISV).float()
        before.add(patches_ISV.float().flatten(0, 1))
        after.add(tokens_IPD.flatten(0, 1))
        labels = model.label_embeddings(batch.label_ids or [[0]]).float()
        covered_IRP = covered_tokens(model.projector.token_coverage(batch.coverage_IRS))
        num_images += batch.num_images
        for image, there_R in enumerate(batch.region_mask_IR):
            if there_R.any():
                labels_RD = labels[batch.label_index_IR[image, there_R]]
                align.add(tokens_IPD[image], labels_RD, covered_IRP[image, there_R])
                cosine.add(tokens_IPD[image], labels_RD, covered_IRP[image, there_R])
    return Measures(
        num_images=num_images,
        num_regions=align.num_regions,
        num_regions_without_token=align.num_dropped,
        entropy_before=before.value,
        entropy_after=after.value,
        delta_entropy=delta_entropy(before, after),
        align=align.value,
        align_by_threshold={str(rule): value for rule, value in align.by_threshold.items()},
        cosine=cosine.value,
        threshold=threshold,
    )


def analyze_run(
    run: str,
    annotations: str,
    images: str | None,
    output: str,
    *,
    num_images: int = 100,
    threshold: Threshold = "otsu",
    iterations: int = 5,
    num_pictures: int = 8,
    spectrum: bool = False,
    held_out: bool = True,
    review: ReviewChoice | None = None,
) -> AnalysisReport:
    """Measure the projector of a finished run; writes analysis.json and pictures into `output`.

    The same of a random projector beside it. Of the data set that the run was trained on, the
    images that it held out are measured if there are some; without `held_out`, and of other data
    sets, the first ones. With `spectrum` also what lies behind ΔH: `spectra.measure_spectra`.
    `review` says which marks on the annotations count.

    Raises `UserError` where the run has not finished or the annotations have no regions.
    """
    trained = read_run(storage.absolute(run))
    check_review(review, annotations, None)
    model, tokenizer, config = load_finished_model(trained)
    target = storage.local_path(output)
    if target is None:
        raise UserError(Setting("output"), f" must be a folder on this machine, not {output}")
    target.mkdir(parents=True, exist_ok=True)
    with tempfile.TemporaryDirectory() as folder:
        path = Path(folder, "samples.arrow")
        found = choose_samples(
            trained,
            storage.absolute(annotations),
            images,
            num_images,
            path,
            held_out=held_out,
            review=review,
        )
        loader = Loader(found.samples, tokenizer, config, vision_input(model, config.vision))
        chosen = found.places
        measures = measure(model, batches_of(loader, chosen), threshold)
        spectra = measure_spectra(model, batches_of(loader, chosen)) if spectrum else None
        examples = [loader.load(int(index)) for index in chosen[:num_pictures]]
        find = partial(
            _find_maps,
            loader=loader,
            examples=examples,
            tokenizer=tokenizer,
            threshold=threshold,
            num_iterations=iterations,
        )
        maps = find(model)
        stems = file_stems([found.image_id for found in maps])
        pictures = [
            name
            for found, stem in zip(maps, stems, strict=True)
            for name in draw_pictures(found, target, stem)
        ]
        # Beside them the maps of an untrained projector, of the same images.
        fresh = with_random_projector(model)
        random = measure(fresh, batches_of(loader, chosen), threshold)
        write_maps(
            target,
            0,
            "random",
            find(fresh),
            threshold=threshold,
            measures=summary_of(random),
        )
    name = storage.absolute(run).rstrip("/").rsplit("/", 1)[-1]
    write_maps(target, 1, name, maps, threshold=threshold, measures=summary_of(measures))
    values = {
        "run": run,
        **asdict(measures),
        "held_out": found.held_out,
        "random": summary_of(random),
    }
    if spectra is not None:
        values["spectrum"] = spectra_to_json(spectra)
    text = json.dumps(values, indent=1) + "\n"
    storage.write_atomic(str(target / "analysis.json"), text.encode())
    return AnalysisReport(measures, random, found.seen, output, pictures, spectra)


def with_random_projector(model: VisionLanguageModel) -> VisionLanguageModel:
    """The same model with a projector of the same shape and new random weights."""
    projector = copy.deepcopy(model.projector)
    with torch.random.fork_rng(devices=[]):
        torch.manual_seed(0)
        for part in projector.modules():
            if hasattr(part, "reset_parameters"):
                part.reset_parameters()  # type: ignore[operator]
    return VisionLanguageModel(
        model.vision,
        projector,
        model.llm,
        compute_dtype=model.compute_dtype,
        select_layer=model.select_layer,
    ).eval()


def summary_of(measures: Measures) -> dict[str, float]:
    """The measures that are shown beside a variant's maps."""
    return {name: getattr(measures, name) for name in ("align", "cosine", "delta_entropy")}


def _find_maps(
    model: VisionLanguageModel,
    *,
    loader: Loader,
    examples: Sequence[Example],
    tokenizer: Any,
    **options: Any,
) -> list[ImageMaps]:
    return [
        image_maps(model, tokenizer, loader.collate([example]), example, **options)
        for example in examples
    ]


def batches_of(loader: Loader, indices: np.ndarray) -> Iterator[Batch]:
    """The samples in batches, one after the other."""
    for start in range(0, len(indices), _IMAGES_TOGETHER):
        group = indices[start : start + _IMAGES_TOGETHER]
        yield loader.collate([loader.load(int(index)) for index in group])
