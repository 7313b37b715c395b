"""A deterministic generator of illustrated scenes with exact tags, boxes, masks and captions."""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
from PIL import Image

from pad_pipeline.scenes.backgrounds import draw_background, planar
from pad_pipeline.scenes.captions import Placed, describe
from pad_pipeline.scenes.kinds import KINDS, SPECS
from pad_pipeline.scenes.things.pen import Pen, shade

__all__ = ["KINDS", "SIZES", "Scene", "Thing", "generate_scene"]

SIZES: tuple[tuple[int, int], ...] = (  # width, height
    (256, 192),
    (192, 256),
    (224, 224),
    (288, 168),
    (208, 232),
)
MIN_VISIBLE_SHARE = 0.5
MAX_CUT_SHARE = 0.2
MAX_BOX_IOU = 0.45
_COUNTS = (0.10, 0.22, 0.30, 0.24, 0.14)  # of 1 to 5 things
_SIDES = ((0.42, 0.60), (0.38, 0.56), (0.34, 0.52), (0.31, 0.48), (0.29, 0.43))
_MAX_DEGREES = 25.0
_TRIES = 20
_CROWDING = 0.35  # share of the things that do not avoid hiding others
_FREE = -1


@dataclass(frozen=True, slots=True)
class Thing:
    """One thing: its tag, colour word, and what is visible of it.

    `bbox_xyxy` is in pixels, tight around the visible mask, with continuous edges
    [x0, y0, x1, y1); `mask` is (H, W) bool.
    """

    kind: str
    variant: str
    bbox_xyxy: tuple[float, float, float, float]
    mask: np.ndarray


@dataclass(frozen=True, slots=True)
class Scene:
    """`image` is (H, W, 3) uint8 RGB; `tags` are the sorted kinds, each once."""

    image: np.ndarray
    things: tuple[Thing, ...]
    caption: str
    tags: tuple[str, ...]


@dataclass(slots=True)
class _Sprite:
    """A drawn thing and, once placed, its corner in the image and its visible pixels."""

    kind: str
    variant: str
    colour: np.ndarray  # (3, h, w) float32 in 0..255
    alpha: np.ndarray  # (h, w) float32 in 0..1
    shadow: np.ndarray  # (h, w) float32 in 0..1
    area: int
    x: int = 0
    y: int = 0
    visible: int = 0
    hidden_by: frozenset[int] = frozenset()


def _draw_sprite(rng: np.random.Generator, kind: str, side: float) -> _Sprite:
    spec = SPECS[kind]
    names = tuple(spec.variants)
    variant = names[int(rng.integers(len(names)))]
    main, second = spec.variants[variant]
    degrees = float(np.clip(rng.normal(0, 10), -_MAX_DEGREES, _MAX_DEGREES))
    darkest = min(main, second, key=sum)
    pen = Pen(side, degrees, bool(rng.random() < 0.5), shade(darkest, -0.62))
    spec.draw(pen, main, second)
    picture = pen.picture()
    planes = planar(picture)
    _, height, width = planes.shape
    alpha = planes[3] * (1 / 255)
    # Light falls from the top left; each thing is a little warmer or cooler than the next.
    light = np.linspace(0.07, -0.08, height, dtype=np.float32)[:, None] + np.linspace(
        0.05, -0.06, width, dtype=np.float32
    )
    gain = rng.uniform(0.95, 1.04, 3).astype(np.float32)
    colour = planes[:3]
    colour *= gain[:, None, None]
    colour *= 1 + light
    blurred = picture.getchannel("X").reduce(4).resize((width, height), Image.Resampling.BILINEAR)
    shadow = np.asarray(blurred, dtype=np.float32) * (0.30 / 255)
    return _Sprite(kind, variant, colour, alpha, shadow, int((alpha > 0.5).sum()))


def _window(
    shape: tuple[int, ...], x: int, y: int, height: int, width: int
) -> tuple[tuple[slice, slice], tuple[slice, slice]]:
    """The part of an image that a patch at (x, y) covers, and the same part of the patch."""
    x0, y0, x1, y1 = max(x, 0), max(y, 0), min(x + width, shape[1]), min(y + height, shape[0])
    return (
        (slice(y0, y1), slice(x0, x1)),
        (slice(y0 - y, y1 - y), slice(x0 - x, x1 - x)),
    )


def _tight_box(mask: np.ndarray) -> tuple[float, float, float, float]:
    rows, columns = np.flatnonzero(mask.any(1)), np.flatnonzero(mask.any(0))
    return float(columns[0]), float(rows[0]), float(columns[-1] + 1), float(rows[-1] + 1)


def _iou(a: tuple[float, ...], b: tuple[float, ...]) -> float:
    width, height = min(a[2], b[2]) - max(a[0], b[0]), min(a[3], b[3]) - max(a[1], b[1])
    if width <= 0 or height <= 0:
        return 0.0
    inner = width * height
    return inner / ((a[2] - a[0]) * (a[3] - a[1]) + (b[2] - b[0]) * (b[3] - b[1]) - inner)


def _try_place(
    owner: np.ndarray,
    sprites: list[_Sprite],
    boxes: list[tuple[float, ...]],
    new: _Sprite,
    max_hidden: float,
) -> bool:
    """Put `new` over the others where it stands; False, and nothing changed, if it breaks a rule.

    Args:
        owner: (H, W) int8, the index of the thing that each pixel shows.
        max_hidden: the largest share of another thing that may be hidden.
    """
    height, width = new.alpha.shape
    image_part, patch_part = _window(owner.shape, new.x, new.y, height, width)
    mask = new.alpha[patch_part] > 0.5
    visible = int(np.count_nonzero(mask))
    if visible < (1 - MAX_CUT_SHARE) * new.area:
        return False
    below = owner[image_part]
    hidden = np.bincount(below[mask] + 1, minlength=len(sprites) + 1)[1:]
    for k, sprite in enumerate(sprites):
        if hidden[k] > max_hidden * sprite.area:
            return False
        if sprite.visible - hidden[k] < MIN_VISIBLE_SHARE * sprite.area:
            return False
    touched = np.flatnonzero(hidden)
    fresh = list(boxes)
    if len(touched):
        trial = owner.copy()
        trial[image_part][mask] = len(sprites)
        for k in touched:
            fresh[k] = _tight_box(trial == k)
    local = _tight_box(mask)
    x0, y0 = image_part[1].start, image_part[0].start
    fresh.append((local[0] + x0, local[1] + y0, local[2] + x0, local[3] + y0))
    changed = {*touched.tolist(), len(sprites)}
    for a in changed:
        for b in range(len(fresh)):
            if a != b and _iou(fresh[a], fresh[b]) > MAX_BOX_IOU:
                return False
    below[mask] = len(sprites)
    boxes[:] = fresh
    for k in touched:
        sprites[k].visible -= int(hidden[k])
        if hidden[k] > 0.04 * sprites[k].area:
            sprites[k].hidden_by |= {len(sprites)}
    new.visible = visible
    sprites.append(new)
    return True


def _place(
    rng: np.random.Generator,
    owner: np.ndarray,
    sprites: list[_Sprite],
    boxes: list[tuple[float, ...]],
    new: _Sprite,
) -> bool:
    height, width = owner.shape
    h, w = new.alpha.shape
    low, high = SPECS[new.kind].zone
    crowd = rng.random() < _CROWDING
    spots = rng.random((_TRIES, 3)).tolist()
    for k, (u, v, cut) in enumerate(spots):
        slack = 0.08 if cut < 0.12 else 0.0  # some things are cut by the border
        left, right = -slack * w, width - w + slack * w
        top = min(max(low * height - h / 2, -slack * h), height - h)
        bottom = max(min(high * height - h / 2, height - h + slack * h), top)
        new.x, new.y = round(left + u * (right - left)), round(top + v * (bottom - top))
        if _try_place(owner, sprites, boxes, new, 1.0 if crowd or k > _TRIES // 2 else 0.03):
            return True
    return False


def _paint(canvas: np.ndarray, sprite: _Sprite) -> None:
    """Lay a sprite and its shadow over the canvas, (3, H, W) float32."""
    height, width = sprite.alpha.shape
    image_part, patch_part = _window(canvas.shape[1:], sprite.x + 3, sprite.y + 4, height, width)
    canvas[:, *image_part] *= 1 - sprite.shadow[patch_part]
    image_part, patch_part = _window(canvas.shape[1:], sprite.x, sprite.y, height, width)
    under = canvas[:, *image_part]
    under += (sprite.colour[:, *patch_part] - under) * sprite.alpha[patch_part]


def generate_scene(seed: int) -> Scene:
    """The scene of a seed: the same pixels, boxes, masks and words in every process.

    It holds 1 to 5 things, each at least half visible and cut by the border by at most a fifth;
    no two boxes overlap by more than an IoU of 0.45.
    """
    rng = np.random.default_rng(seed)
    width, height = SIZES[int(rng.integers(len(SIZES)))]
    canvas, place = draw_background(rng, width, height)
    count = int(np.searchsorted(np.cumsum(_COUNTS)[:-1], rng.random(), side="right")) + 1
    kinds = [KINDS[k] for k in rng.integers(len(KINDS), size=count)]
    if count > 1 and rng.random() < 0.15:
        kinds[-1] = kinds[0]
    kinds.sort(key=lambda kind: SPECS[kind].zone[0])  # what is in the sky lies behind

    owner = np.full((height, width), _FREE, dtype=np.int8)
    sprites: list[_Sprite] = []
    boxes: list[tuple[float, ...]] = []
    low, high = _SIDES[count - 1]
    for kind in kinds:
        side = min(width, height) * rng.uniform(low, high)
        _place(rng, owner, sprites, boxes, _draw_sprite(rng, kind, side))
    for sprite in sprites:
        _paint(canvas, sprite)
    canvas += rng.integers(-4, 5, (height, width), dtype=np.int8)
    np.clip(canvas, 0, 255, out=canvas)
    image = canvas.astype(np.uint8).transpose(1, 2, 0).copy()

    things, placed = [], []
    for k, sprite in enumerate(sprites):
        x0, y0, x1, y1 = boxes[k]
        things.append(Thing(sprite.kind, sprite.variant, (x0, y0, x1, y1), owner == k))
        centre = (x0 + x1) / 2 / width, (y0 + y1) / 2 / height
        placed.append(
            Placed(sprite.kind, sprite.variant, *centre, sprite.visible, sprite.hidden_by)
        )
    caption = describe(placed, place, rng)
    return Scene(image, tuple(things), caption, tuple(sorted({t.kind for t in things})))
