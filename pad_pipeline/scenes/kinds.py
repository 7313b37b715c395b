"""The kinds of things in the scenes: how each is drawn, coloured, placed and spoken of."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass

from pad_pipeline.scenes.things import made, nature
from pad_pipeline.scenes.things.pen import Colour, Pen


@dataclass(frozen=True, slots=True)
class Kind:
    """One kind; `variants` maps a colour word to (main, second) colours, `zone` is the range of
    the centre's height in the image (0 top, 1 bottom), `verb` holds singular and plural."""

    draw: Callable[[Pen, Colour, Colour], None]
    variants: dict[str, tuple[Colour, Colour]]
    zone: tuple[float, float]
    verb: tuple[str, str]
    trait: str = ""
    plural: str = ""


_SKY, _GROUND, _ANY = (0.12, 0.62), (0.42, 0.88), (0.15, 0.85)
_STAND, _LIE, _FLOAT = ("stands", "stand"), ("lies", "lie"), ("floats", "float")
_CREAM, _PALE = (255, 240, 206), (250, 250, 250)

SPECS: dict[str, Kind] = {
    "apple": Kind(
        nature.apple,
        {
            "red": ((214, 52, 52), (172, 30, 46)),
            "green": ((150, 196, 70), (112, 162, 52)),
            "yellow": ((244, 204, 82), (222, 166, 54)),
        },
        _GROUND,
        _LIE,
    ),
    "balloon": Kind(
        made.balloon,
        {
            "red": ((222, 76, 70), _CREAM),
            "purple": ((140, 96, 180), (246, 200, 92)),
            "green": ((74, 160, 118), (250, 236, 170)),
        },
        _SKY,
        _FLOAT,
        "striped",
    ),
    "beach ball": Kind(
        made.beach_ball,
        {
            "red": ((230, 74, 72), (250, 196, 66)),
            "blue": ((58, 132, 206), (250, 196, 66)),
            "green": ((72, 170, 104), (240, 120, 80)),
        },
        _GROUND,
        _LIE,
    ),
    "brick wall": Kind(
        made.brick_wall,
        {
            "red": ((178, 82, 64), (216, 196, 176)),
            "grey": ((134, 138, 148), (200, 202, 204)),
            "brown": ((152, 112, 80), (214, 198, 172)),
        },
        _GROUND,
        _STAND,
    ),
    "butterfly": Kind(
        nature.butterfly,
        {
            "orange": ((242, 142, 50), (255, 220, 120)),
            "blue": ((84, 150, 226), (190, 232, 250)),
            "pink": ((232, 116, 168), (255, 222, 150)),
        },
        _ANY,
        ("flutters", "flutter"),
        "",
        "butterflies",
    ),
    "car": Kind(
        made.car,
        {
            "red": ((216, 62, 58), _CREAM),
            "blue": ((62, 116, 190), (226, 236, 244)),
            "yellow": ((246, 194, 62), (120, 92, 60)),
            "green": ((78, 152, 106), (244, 232, 190)),
        },
        _GROUND,
        ("is parked", "are parked"),
    ),
    "cloud": Kind(
        nature.cloud,
        {
            "white": ((244, 248, 252), (206, 222, 238)),
            "grey": ((176, 184, 198), (142, 152, 170)),
            "pink": ((250, 212, 220), (238, 178, 196)),
        },
        _SKY,
        _FLOAT,
    ),
    "fish": Kind(
        nature.fish,
        {
            "blue": ((84, 158, 214), (36, 92, 158)),
            "orange": ((246, 146, 56), _PALE),
            "purple": ((158, 112, 196), (248, 214, 110)),
        },
        _ANY,
        ("swims", "swim"),
        "striped",
        "fish",
    ),
    "flower": Kind(
        nature.flower,
        {
            "pink": ((244, 134, 172), (252, 206, 76)),
            "purple": ((150, 110, 204), (252, 214, 90)),
            "white": ((250, 248, 244), (250, 188, 52)),
        },
        _GROUND,
        ("grows", "grow"),
    ),
    "house": Kind(
        made.house,
        {
            "red": ((206, 92, 78), (98, 74, 78)),
            "blue": ((128, 176, 212), (72, 88, 122)),
            "yellow": ((246, 216, 132), (190, 82, 62)),
        },
        _GROUND,
        _STAND,
    ),
    "ice cream": Kind(
        made.ice_cream,
        {
            "pink": ((248, 170, 190), (224, 96, 130)),
            "green": ((176, 222, 178), (110, 74, 56)),
            "brown": ((142, 92, 66), (250, 234, 208)),
        },
        _ANY,
        _STAND,
    ),
    "mushroom": Kind(
        nature.mushroom,
        {
            "red": ((212, 58, 50), _PALE),
            "brown": ((160, 104, 64), (240, 218, 178)),
            "purple": ((138, 84, 150), (244, 220, 240)),
        },
        _GROUND,
        ("grows", "grow"),
        "spotted",
    ),
    "owl": Kind(
        nature.owl,
        {
            "brown": ((146, 100, 66), (238, 212, 168)),
            "grey": ((130, 138, 152), (228, 230, 232)),
            "white": ((238, 234, 226), (250, 250, 248)),
        },
        _ANY,
        ("sits", "sit"),
    ),
    "rocket": Kind(
        made.rocket,
        {
            "red": ((218, 62, 62), (70, 90, 130)),
            "blue": ((56, 110, 190), (244, 168, 60)),
            "green": ((66, 156, 108), (246, 204, 80)),
        },
        _SKY,
        ("flies", "fly"),
    ),
    "sailboat": Kind(
        made.sailboat,
        {
            "red": ((206, 66, 60), (224, 92, 80)),
            "blue": ((44, 92, 158), (84, 146, 208)),
            "green": ((58, 132, 104), (110, 184, 144)),
        },
        _ANY,
        ("sails", "sail"),
    ),
    "snail": Kind(
        nature.snail,
        {
            "brown": ((170, 112, 68), (102, 62, 40)),
            "pink": ((238, 140, 160), (176, 66, 106)),
            "blue": ((104, 160, 200), (46, 88, 140)),
        },
        _GROUND,
        ("crawls", "crawl"),
    ),
    "sun": Kind(
        nature.sun,
        {
            "yellow": ((255, 218, 70), (250, 176, 50)),
            "orange": ((252, 172, 62), (236, 110, 48)),
            "red": ((240, 112, 74), (250, 172, 70)),
        },
        _SKY,
        ("shines", "shine"),
    ),
    "traffic light": Kind(
        made.traffic_light,
        {
            "black": ((66, 68, 78), (48, 48, 56)),
            "yellow": ((240, 188, 58), (204, 146, 44)),
            "blue": ((72, 108, 158), (50, 78, 120)),
        },
        _GROUND,
        _STAND,
    ),
    "tree": Kind(
        nature.tree,
        {
            "green": ((92, 154, 78), (214, 74, 60)),
            "orange": ((228, 138, 56), (250, 204, 96)),
            "pink": ((242, 176, 196), (252, 236, 240)),
        },
        _GROUND,
        _STAND,
    ),
    "umbrella": Kind(
        made.umbrella,
        {
            "purple": ((134, 92, 170), (214, 186, 232)),
            "blue": ((52, 118, 178), (250, 222, 120)),
            "red": ((212, 66, 70), (250, 236, 214)),
        },
        _ANY,
        _STAND,
    ),
}

KINDS: tuple[str, ...] = tuple(SPECS)
