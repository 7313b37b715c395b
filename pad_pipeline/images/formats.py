"""The image formats that are read: their file endings, their signatures, and who decodes them."""

from __future__ import annotations

import importlib
import importlib.util
import posixpath
import re
from dataclasses import dataclass
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from PIL.ImageFile import ImageFile


@dataclass(frozen=True, slots=True)
class ImageFormat:
    """One format. `signature` matches the first bytes of a file; the file's name never counts.

    `plugin` is "module:class" of a Pillow image plugin, and `package` the optional distribution
    that brings it, where Pillow itself does not.
    """

    name: str
    suffixes: tuple[str, ...]
    signature: re.Pattern[bytes]
    plugin: str
    package: str | None = None

    @property
    def is_installed(self) -> bool:
        """Whether its plugin can be imported here."""
        return importlib.util.find_spec(self.plugin.partition(".")[0]) is not None

    def load_plugin(self) -> type[ImageFile]:
        """The class that opens a file of this format."""
        module, _, name = self.plugin.partition(":")
        return getattr(importlib.import_module(module), name)


def _format(
    name: str, suffixes: str, signature: bytes, plugin: str, package: str | None = None
) -> ImageFormat:
    pattern = re.compile(signature, re.DOTALL)
    return ImageFormat(name, tuple(suffixes.split()), pattern, plugin, package)


_BRANDS = rb".{4}ftyp(?:.{4})*?"  # the major brand, the version, the compatible brands

_TGA_FOOTER = b"TRUEVISION-XFILE.\0"
# The older form has no mark: the only header of fixed values and sane sizes, with its colour map.
_TGA_HEADER = (
    rb".(?:\0[\x02\x03\x0a\x0b]\0{5}|\x01[\x01\x09]\0\0..[\x0f\x10\x18\x20]).{4}"
    rb"(?!\0\0)..(?!\0\0)..[\x08\x0f\x10\x18\x20][\x00-\x3f]"
)

# In this order: an AVIF may name a HEIF brand first.
FORMATS = (
    _format("JPEG", ".jpg .jpeg .jpe .jfif", rb"\xff\xd8\xff", "PIL.JpegImagePlugin:JpegImageFile"),
    _format("PNG", ".png .apng", rb"\x89PNG\r\n\x1a\n", "PIL.PngImagePlugin:PngImageFile"),
    _format("WEBP", ".webp", rb".{8}WEBP", "PIL.WebPImagePlugin:WebPImageFile"),
    _format("GIF", ".gif", rb"GIF8[79]a", "PIL.GifImagePlugin:GifImageFile"),
    _format("BMP", ".bmp .dib", rb"BM", "PIL.BmpImagePlugin:BmpImageFile"),
    _format("TIFF", ".tif .tiff", rb"II[*+]\0|MM\0[*+]", "PIL.TiffImagePlugin:TiffImageFile"),
    _format("AVIF", ".avif .avifs", _BRANDS + rb"avi[fs]", "PIL.AvifImagePlugin:AvifImageFile"),
    _format(
        "JPEG2000",
        ".jp2 .j2k .jpf .jpx .j2c .jpc",
        rb"\0\0\0\x0cjP  \r\n\x87\n|\xff\x4f\xff\x51",
        "PIL.Jpeg2KImagePlugin:Jpeg2KImageFile",
    ),
    _format("PPM", ".ppm .pgm .pbm .pnm", rb"P[1-6]\s", "PIL.PpmImagePlugin:PpmImageFile"),
    _format("QOI", ".qoi", rb"qoif", "PIL.QoiImagePlugin:QoiImageFile"),
    _format("PSD", ".psd", rb"8BPS", "PIL.PsdImagePlugin:PsdImageFile"),
    _format("TGA", ".tga", _TGA_HEADER, "PIL.TgaImagePlugin:TgaImageFile"),
    _format(
        "HEIF",
        ".heic .heif .hif",
        _BRANDS + rb"(?:hei[cxms]|hev[cxms]|mif1|msf1)",
        "pillow_heif.as_plugin:HeifImageFile",
        "pillow-heif",
    ),
    _format(
        "JPEG XL",
        ".jxl",
        rb"\xff\x0a|\0\0\0\x0cJXL \r\n\x87\n",
        "pillow_jxl.JpegXLImagePlugin:JXLImageFile",
        "pillow-jxl-plugin",
    ),
)

IMAGE_SUFFIXES = tuple(suffix for form in FORMATS if form.is_installed for suffix in form.suffixes)
"""Endings, in lower case, of the files that count as images here."""

OPTIONAL_SUFFIXES = {
    suffix: form for form in FORMATS if not form.is_installed for suffix in form.suffixes
}
"""Endings of images that an optional package would read, with their format."""


def has_image_suffix(name: str) -> bool:
    """Whether a file name or path ends as an image's does."""
    return posixpath.splitext(name)[1].lower() in IMAGE_SUFFIXES


def format_of(data: bytes) -> ImageFormat | None:
    """The format of encoded bytes by what they begin with, of TGA also by what they end with."""
    head = data[:64]
    for form in FORMATS:
        if form.signature.match(head) or (form.name == "TGA" and data.endswith(_TGA_FOOTER)):
            return form
    return None
