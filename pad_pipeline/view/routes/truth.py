"""The ground-truth pages: figures by tag, images with their mistakes, and one image with both."""

from __future__ import annotations

from typing import Annotated, Any

from fastapi import APIRouter, HTTPException, Query, Request
from fastapi.responses import Response

from pad_pipeline.drawing.fonts import font_size_for
from pad_pipeline.records import PadRecord
from pad_pipeline.view.dependencies import CurrentViewer, ImageId, find_image
from pad_pipeline.view.overlay import SKETCH_LETTERS, SKETCH_SIDE
from pad_pipeline.view.pictures import layer_scale
from pad_pipeline.view.routes.pictures import picture_answer
from pad_pipeline.view.truth.addresses import ImagesQuery, RuleQuery, TagsQuery
from pad_pipeline.view.truth.confusion import confusion_matrix
from pad_pipeline.view.truth.overlay import TINTS, Picture, Shape, picture, record_of_objects
from pad_pipeline.view.truth.queries import SHOWS, TAG_SORTS, TruthIndex
from pad_pipeline.view.viewer import Viewer

router = APIRouter(prefix="/truth")

TAGS_PER_PAGE = 60
IMAGES_PER_PAGE = 24
_NUM_CONFUSIONS = 12


def _opened(viewer: Viewer, query: RuleQuery) -> TruthIndex:
    if viewer.truth is None:
        raise HTTPException(
            404,
            "there is no ground truth: start `pad-pipeline view` with --ground-truth and COCO's "
            "instances JSON",
        )
    if query.by not in {rule.by for rule in viewer.truth.rules}:
        raise HTTPException(404, "the ground truth has no masks: compare by boxes")
    return viewer.truth


@router.get("")
def tags(request: Request, viewer: CurrentViewer, query: Annotated[TagsQuery, Query()]) -> Response:
    """Figures of all and tag by tag, and which tags are taken for which."""
    truth = _opened(viewer, query)
    page = max(query.page, 1)
    offset = (page - 1) * TAGS_PER_PAGE
    words = query.q.strip()
    rows, total = truth.tags(query.rule, words, query.sort, TAGS_PER_PAGE, offset)
    images = RuleQuery(by=query.by, iou=query.iou, min_score=query.min_score)
    return viewer.page(
        request,
        "truth.html",
        title="Ground truth",
        active="truth",
        query=query,
        rules=truth.rules,
        totals=truth.totals(query.rule),
        num_images=truth.num_images,
        num_images_failed=truth.num_failed,
        left_out=truth.left_out,
        rows=[{**row, "curve": _curve(row["precisions"])} for row in rows],
        words=words,
        sorts=TAG_SORTS,
        total=total,
        offset=offset,
        page_number=page,
        num_pages=max(1, -(-total // TAGS_PER_PAGE)),
        matrix=confusion_matrix(truth, query.rule),
        confusions=truth.confusions(query.rule, _NUM_CONFUSIONS),
        to_images=lambda **values: images.address("/truth/images", **values),
        at_page=lambda number: query.address("/truth", page=number),
    )


@router.get("/images")
def images(
    request: Request, viewer: CurrentViewer, query: Annotated[ImagesQuery, Query()]
) -> Response:
    """The images that have such an outcome, those with most of it first."""
    truth = _opened(viewer, query)
    if query.named and (query.show != "wrong" or not query.tag):
        raise HTTPException(400, "expected `named` with show=wrong and the tag of the objects")
    total = truth.count(query.chosen)
    num_pages = max(1, -(-total // IMAGES_PER_PAGE))
    page = min(max(query.page, 1), num_pages)
    offset = (page - 1) * IMAGES_PER_PAGE
    found = truth.images(query.chosen, IMAGES_PER_PAGE, offset)
    return viewer.page(
        request,
        "truth_images.html",
        title="Ground truth: images",
        active="truth",
        query=query,
        rules=truth.rules,
        shows=SHOWS,
        cards=_cards(viewer, truth, query, found),
        total=total,
        offset=offset,
        page_number=page,
        num_pages=num_pages,
        at_page=lambda number: query.address("/truth/images", page=number),
    )


def _cards(
    viewer: Viewer, truth: TruthIndex, query: ImagesQuery, found: list[dict[str, Any]]
) -> list[dict[str, Any]]:
    index = viewer.data.index
    rows = {row["image_id"]: row for row in index.of_ids([row["image_id"] for row in found])}
    regions = index.regions([row["position"] for row in rows.values()])
    places = [row["place"] for row in found]
    objects, outcomes = truth.objects(query.rule, places), truth.regions(query.rule, places)
    cards = []
    for row in found:
        image = rows[row["image_id"]]
        size = (image["width"], image["height"])
        drawn = picture(
            size,
            SKETCH_SIDE,
            SKETCH_LETTERS,
            objects[row["place"]],
            regions[image["position"]],
            outcomes[row["place"]],
            only_mistakes=True,
        )
        cards.append(
            {
                **row,
                "status": image["status"],
                "caption": image["caption"],
                "counts": [
                    (slug, row[slug])
                    for slug in ("missed", "wrong", "nothing", "again", "found")
                    if row[slug]
                ],
                "picture": drawn,
                "href": query.of_image(row["image_id"]),
            }
        )
    return cards


@router.get("/image/{image_id:id}")
def image(
    request: Request,
    viewer: CurrentViewer,
    image_id: ImageId,
    query: Annotated[ImagesQuery, Query()],
    region: int = -1,
) -> Response:
    """One image with the truth's objects and the regions over it; `region` is the row selected."""
    truth = _opened(viewer, query)
    row = find_image(viewer.data, image_id)
    place = truth.place_of(image_id)
    if place is None:
        raise HTTPException(404, f"the ground truth has no image called {image_id[:300]!r}")
    record = viewer.data.record_of(row)
    drawn = _picture_of(viewer, truth, query, record, row["position"], place)
    around = truth.around(query.chosen, image_id)
    shapes = sorted(drawn.shapes, key=lambda each: (each.side == "found", each.number))
    return viewer.page(
        request,
        "truth_image.html",
        title=image_id,
        active="truth",
        query=query,
        rules=truth.rules,
        record=record,
        missing=viewer.pictures.missing(record) if record.status != "failed" else None,
        picture=drawn,
        has_masks=any(rule.by == "masks" for rule in truth.rules),
        rows=shapes,
        number_of={shape: number for number, shape in enumerate(shapes)},
        legend=_legend(shapes),
        selected=region,
        around=around,
        total=truth.count(query.chosen),
        previous=query.of_image(around.previous) if around.previous is not None else None,
        following=query.of_image(around.next) if around.next is not None else None,
        back=query.address(
            "/truth/images", page=(max(around.number, 1) - 1) // IMAGES_PER_PAGE + 1
        ),
    )


def _picture_of(
    viewer: Viewer,
    truth: TruthIndex,
    query: ImagesQuery,
    record: PadRecord,
    position: int,
    place: int,
) -> Picture:
    objects = truth.objects(query.rule, [place])[place]
    outcomes = truth.regions(query.rule, [place])[place]
    longest = max(record.width, record.height) * layer_scale(record)
    scale = longest / max(record.width, record.height, 1)
    units = (round(record.width * scale), round(record.height * scale))
    return picture(
        (record.width, record.height),
        longest,
        font_size_for(units, len(objects) + len(outcomes)),
        objects,
        viewer.data.index.regions([position])[position],
        outcomes,
    )


def _legend(shapes: list[Shape]) -> list[tuple[str, str, list[int]]]:
    """What is on the picture, each with the numbers of its rows: side, slug, numbers."""
    found: dict[tuple[str, str], list[int]] = {}
    for number, shape in enumerate(shapes):
        found.setdefault((shape.side, shape.slug), []).append(number)
    return [(*key, numbers) for key, numbers in found.items()]


@router.get("/layer/{side}/{slug}/{number}/{part}/{image_id:id}")
def layer(
    viewer: CurrentViewer, image_id: ImageId, side: str, slug: str, number: int, part: str
) -> Response:
    """The mask of an object or of a region, its fill or its rim, in the colour of its outcome."""
    truth = _opened(viewer, RuleQuery())
    row = find_image(viewer.data, image_id)

    def draw(record: PadRecord) -> bytes:
        if side == "truth" and (place := truth.place_of(image_id)) is not None:
            found = truth.objects(truth.rules[-1], [place], masks=True)[place]
            record = record_of_objects(record, found)
        if part not in ("fill", "rim") or slug not in TINTS or not 0 <= number < len(record.labels):
            raise HTTPException(404, "there is no such layer")
        return viewer.pictures.layer(record, number, part, TINTS[slug])

    return picture_answer(viewer.data, row, draw, "image/png")


def _curve(precisions: list[float] | None) -> str | None:
    """Precision against recall as the points of an SVG line, 100 wide and high."""
    if precisions is None:
        return None
    return " ".join(f"{at},{round(100 - 100 * p, 1):g}" for at, p in enumerate(precisions))
