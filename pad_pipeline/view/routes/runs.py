"""The page of trained runs: what projectors find in images, and what denoisers reconstruct."""

from __future__ import annotations

from collections import Counter
from typing import Annotated, Any

from fastapi import APIRouter, HTTPException, Query, Request
from fastapi.responses import Response

from pad_pipeline.drawing.words import word_colours
from pad_pipeline.view.dependencies import CurrentViewer
from pad_pipeline.view.parameters import Parameters
from pad_pipeline.view.runs import ProjectorVariant, frame_of

router = APIRouter(prefix="/runs")


class RunsQuery(Parameters, frozen=True):
    """The image that is shown, and the `variant` of the projector that is shown alone at first;
    without one, all are side by side."""

    image: str | None = None
    variant: str = ""


@router.get("/frame/{number}/{image_id:id}")
def frame(viewer: CurrentViewer, number: int, image_id: str) -> Response:
    """An image as the model of a run sees it."""
    run = viewer.runs[number] if 0 <= number < len(viewer.runs) else None
    data = frame_of(run, image_id) if run is not None else None
    if data is None:
        raise HTTPException(404, "there is no such picture")
    return Response(data, media_type="image/png")


@router.get("/reconstructions/{number}")
def reconstructions(viewer: CurrentViewer, number: int) -> Response:
    """Images and their reconstructions of a run of `train vlsa`."""
    run = viewer.vlsa_runs[number] if 0 <= number < len(viewer.vlsa_runs) else None
    data = run.picture() if run is not None else None
    if data is None:
        raise HTTPException(404, "there is no such picture")
    return Response(data, media_type="image/png")


@router.get("")
def runs(request: Request, viewer: CurrentViewer, query: Annotated[RunsQuery, Query()]) -> Response:
    """What every variant finds in one image, below the reconstructions of `train vlsa`."""
    runs = viewer.runs
    if not runs and not viewer.vlsa_runs:
        raise HTTPException(
            404,
            "no trained run is shown: start `pad-pipeline view` with --run FOLDER of `analyze` or "
            "`train vlsa`",
        )
    ids = list(dict.fromkeys(image_id for run in runs for image_id in run.images))
    chosen = query.image if query.image is not None else (ids[0] if ids else "")
    if chosen not in ids and (ids or query.image is not None):
        raise HTTPException(404, f"no run has an image called {chosen[:300]!r}")
    shown = [(number, run) for number, run in enumerate(runs) if chosen in run.images]
    colours = _colours([run.images[chosen] for _, run in shown])
    variants = [_variant(number, run, chosen, colours) for number, run in shown]
    names = [variant["name"] for variant in variants]
    own = viewer.data.index.find(chosen)
    given = [own["caption"] if own else None]
    given += [run.images[chosen].get("caption") for _, run in shown]
    captions = [caption for caption in given if caption]
    return viewer.page(
        request,
        "runs.html",
        title="Trained runs",
        active="runs",
        ids=[
            (image_id, next(n for n, run in enumerate(runs) if image_id in run.images))
            for image_id in ids
        ],
        chosen=chosen,
        in_data_set=own is not None,
        caption=captions[0] if captions else None,
        variants=variants,
        vlsa_runs=viewer.vlsa_runs,
        selected=names.index(query.variant) if query.variant in names else None,
    )


def _colours(images: list[dict[str, Any]]) -> dict[str, str]:
    """Of the words that any variant has in colour: one for a word, whichever variant names it."""
    known = {word.lower() for image in images for word in image["colours"]}
    return word_colours([words for image in images for words in image["words"]], known)


def _variant(
    number: int, run: ProjectorVariant, image_id: str, colours: dict[str, str]
) -> dict[str, Any]:
    image, (rows, columns) = run.images[image_id], run.grid
    largest = max((max(row) for row in image["cosines"]), default=0.0)
    return {
        "number": number,
        "name": run.name,
        "measures": run.measures,
        "threshold": run.threshold,
        "rows": rows,
        "columns": columns,
        "regions": [_region(region, columns) for region in image["regions"]],
        "iterations": [
            _iteration(*pair, colours, columns, max(largest, 1e-6))
            for pair in zip(image["words"], image["cosines"], strict=True)
        ],
    }


def _region(region: dict[str, Any], columns: int) -> dict[str, Any]:
    covered, predicted = set(region["covered"]), set(region["predicted"])
    return {
        "tag": region["tag"],
        "iou": region["iou"],
        "covered": _squares(covered, columns),
        "hit": _squares(covered & predicted, columns),
        "outside": _squares(predicted - covered, columns),
    }


def _squares(tokens: set[int], columns: int) -> str:
    """The tokens' cells as one SVG path, in units of cells."""
    return "".join(f"M{t % columns} {t // columns}h1v1h-1z" for t in sorted(tokens))


def _iteration(
    words: list[str], cosines: list[float], colours: dict[str, str], columns: int, largest: float
) -> dict[str, Any]:
    places = []
    for token, (word, cosine) in enumerate(zip(words, cosines, strict=True)):
        share = min(max(cosine / largest, 0.0), 1.0)
        size = 0.17 + 0.27 * share
        places.append(
            {
                "word": word,
                "x": token % columns + 0.5,
                "y": token // columns + 0.5,
                "size": round(size, 3),
                "ink": colours.get(word),
                "cosine": cosine,
                "shade": heat(share),
            }
        )
    named = Counter(word.lower() for word in words if word in colours)
    tone = {word.lower(): colour for word, colour in colours.items()}
    return {
        "places": places,
        "share": sum(named.values()) / max(len(words), 1),
        "mean": sum(cosines) / max(len(cosines), 1),
        "named": [(word, count, tone[word]) for word, count in named.most_common()],
    }


_HEAT = (
    (68, 1, 84), (72, 40, 120), (62, 74, 137), (49, 104, 142), (38, 130, 142),
    (31, 158, 137), (53, 183, 121), (109, 205, 89), (180, 222, 44), (253, 231, 37),
)  # fmt: skip


def heat(share: float) -> str:
    """A colour from dark violet (0) over green to yellow (1): matplotlib's "viridis", in tenths."""
    place = min(max(share, 0.0), 1.0) * (len(_HEAT) - 1)
    low = min(int(place), len(_HEAT) - 2)
    mixed = (
        round(a + (b - a) * (place - low)) for a, b in zip(_HEAT[low], _HEAT[low + 1], strict=True)
    )
    return "#" + "".join(f"{value:02x}" for value in mixed)
