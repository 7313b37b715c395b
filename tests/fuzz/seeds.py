"""Small valid files of every kind, from which the fuzz test makes its inputs."""

from __future__ import annotations

import base64
import io
import json
import struct
import tarfile
import zipfile
from functools import cache
from typing import Any

import numpy as np
import pyarrow as pa
import pyarrow.parquet as pq
from PIL import Image

from pad_pipeline.records import records_to_table
from tests.dataset.example import example_records
from tests.sources.samples import image, llava, tarred, zipped

FILES = {"00000/1.png": image(1), "ä b\n.png": image(2), "3.PNG": image(3)}


def picture(
    form: str, mode: str = "RGB", size: tuple[int, int] = (24, 16), **options: Any
) -> bytes:
    """A noisy picture, so that its encoded data is not one run."""
    noise = np.random.default_rng(0).integers(0, 256, (size[1], size[0], 3), dtype=np.uint8)
    buffer = io.BytesIO()
    made = Image.fromarray(noise)
    made = Image.fromarray(noise[..., 0].astype(np.uint16) * 257) if mode == "I;16" else made
    (made if mode in ("RGB", "I;16") else made.convert(mode)).save(buffer, form, **options)
    return buffer.getvalue()


def _exif() -> bytes:
    exif = Image.Exif()
    exif[0x0112] = 6
    return exif.tobytes()


def _animation(form: str) -> bytes:
    frames = [Image.new("RGB", (16, 16), colour) for colour in ("red", "blue", "green")]
    buffer = io.BytesIO()
    frames[0].save(buffer, form, save_all=True, append_images=frames[1:], duration=50)
    return buffer.getvalue()


def _flat(form: str) -> bytes:
    buffer = io.BytesIO()
    Image.new("RGB", (64, 64), "teal").save(buffer, form)
    return buffer.getvalue()


def psd(mode: int, channels: int, *, packed: bool = False, num_layers: int = 0) -> bytes:
    """Photoshop's file of 24 x 16 pixels without layers; Pillow writes none."""
    noise = np.random.default_rng(1).integers(0, 256, (channels * 16, 24), dtype=np.uint8)
    colours = bytes(range(256)) * 3 if mode == 2 else b""
    head = b"8BPS" + struct.pack(">H6xHIIHH", 1, channels, 16, 24, 8, mode)
    resource = b"8BIM" + struct.pack(">HHI", 1005, 0, 4) + b"\0" * 4
    head += struct.pack(">I", len(colours)) + colours
    head += struct.pack(">I", len(resource)) + resource
    head += struct.pack(">IIhxx", 8, 4, num_layers) if num_layers else bytes(4)
    if not packed:
        return head + b"\0\0" + noise.tobytes()
    rows = [bytes([23]) + row.tobytes() for row in noise]
    return head + b"\0\1" + b"".join(struct.pack(">H", len(row)) for row in rows) + b"".join(rows)


def _heif(mode: str = "RGB", size: tuple[int, int] = (64, 64), **options: Any) -> bytes:
    import pillow_heif

    noise = np.random.default_rng(2).integers(0, 256, (size[1], size[0], 3), dtype=np.uint8)
    buffer = io.BytesIO()
    made = pillow_heif.from_pillow(Image.fromarray(noise).convert(mode))
    made.save(buffer, quality=40, **options)
    return buffer.getvalue()


def _jpeg_xl(mode: str = "RGB", **options: Any) -> bytes:
    import pillow_jxl  # noqa: F401

    return picture("JXL", mode, **options)


_ICC = struct.pack(">I", 128) + b"\0" * 124
_PICTURES: dict[str, Any] = {
    "jpeg": lambda: [
        picture("JPEG", quality=80, exif=_exif(), icc_profile=_ICC),
        picture("JPEG", "CMYK"),
        picture("JPEG", progressive=True),
        picture("JPEG", "L"),
    ],
    "png": lambda: [
        picture("PNG", exif=_exif(), icc_profile=_ICC),
        picture("PNG", "P", transparency=3),
        picture("PNG", "I;16"),
        picture("PNG", "1"),
        picture("PNG", "LA"),
        _animation("PNG"),
    ],
    "webp": lambda: [
        picture("WEBP", exif=_exif(), icc_profile=_ICC),
        picture("WEBP", "RGBA", lossless=True),
        _animation("WEBP"),
    ],
    "gif": lambda: [picture("GIF", "P"), picture("GIF", "P", transparency=1), _animation("GIF")],
    "bmp": lambda: [picture("BMP"), picture("BMP", "P"), picture("BMP", "1"), picture("BMP", "L")],
    "tiff": lambda: [
        picture("TIFF"),
        picture("TIFF", compression="tiff_lzw"),
        picture("TIFF", compression="jpeg"),
        picture("TIFF", "1", compression="group4"),
        picture("TIFF", "CMYK", compression="tiff_adobe_deflate"),
        picture("TIFF", "I;16"),
        picture("TIFF", big_tiff=True),
    ],
    "jpeg2000": lambda: [
        picture("JPEG2000"),
        picture("JPEG2000", "RGBA", irreversible=False),
        picture("JPEG2000", "I;16", irreversible=False),
        picture("JPEG2000", "L", no_jp2=True),
        picture("JPEG2000", tile_size=(8, 8), num_resolutions=2),
    ],
    "ppm": lambda: [
        picture("PPM"),
        picture("PPM", "L"),
        picture("PPM", "1"),
        b"P5 24 16 1000\n" + bytes(range(256)) * 3,
        b"P6 # comment\n24 16 99\n" + bytes(range(96)) * 12,
        b"P3 8 8 255\n" + b" ".join(b"%d" % value for value in range(192)),
        b"P2 8 8 60000\n" + b"\n".join(b"%d" % (900 * value) for value in range(64)),
        b"P1\n8 8\n" + b"01" * 32,
    ],
    "qoi": lambda: [picture("QOI"), picture("QOI", "RGBA"), _flat("QOI")],
    "psd": lambda: [
        psd(3, 3),
        psd(3, 4, packed=True, num_layers=-1),
        psd(1, 1),
        psd(4, 4),
        psd(2, 1),
    ],
    "tga": lambda: [
        picture("TGA"),
        picture("TGA", "RGBA", compression="tga_rle"),
        picture("TGA", "P"),
        picture("TGA", "L")[: -len(b"TRUEVISION-XFILE.\0") - 8],
    ],
    "heif": lambda: [_heif(), _heif("RGBA"), _heif(exif=_exif()), _heif(size=(600, 520))],
    "jxl": lambda: [
        _jpeg_xl(lossless=True),
        _jpeg_xl("RGBA", use_container=True),
        _jpeg_xl("I;16", lossless=True),
        _jpeg_xl("L", effort=1),
    ],
    "avif": lambda: [picture("AVIF", quality=60), picture("AVIF", "RGBA"), _animation("AVIF")],
}
PICTURE_KINDS = tuple(_PICTURES)


@cache
def pictures(form: str) -> list[bytes]:
    """Pictures of one format in the modes and with the extras that it has."""
    return _PICTURES[form]()


@cache
def zips() -> list[bytes]:
    """Stored, deflated, bzip2, zip64 and streamed archives."""
    big = io.BytesIO()
    with zipfile.ZipFile(big, "w", zipfile.ZIP_DEFLATED) as archive:
        for name, data in FILES.items():
            with archive.open(zipfile.ZipInfo(name), "w", force_zip64=True) as file:
                file.write(data)
    kinds = (zipfile.ZIP_STORED, zipfile.ZIP_DEFLATED, zipfile.ZIP_BZIP2)
    nested = zipped({"inner.zip": zipped(FILES), "x.png": image(4)})
    return [*(zipped(FILES, kind) for kind in kinds), big.getvalue(), nested]


@cache
def tars() -> list[bytes]:
    """Tars of the three formats, with captions, long names and extended headers."""
    files = [("1.png", image(1)), ("1.txt", b"a caption"), ("2.png", image(2))]
    files += [("2.json", b'{"caption": "b"}'), ("ä" * 70 + ".png", image(3))]
    forms = (tarfile.USTAR_FORMAT, tarfile.GNU_FORMAT, tarfile.PAX_FORMAT)
    return [tarred(files[:4] if form == tarfile.USTAR_FORMAT else files, form) for form in forms]


@cache
def json_lists() -> list[bytes]:
    """LLaVA's list and a plain one."""
    entries = [llava(name, f"caption of {name}") for name in FILES]
    plain = [{"file_name": name, "id": n, "caption": ["a", "b"]} for n, name in enumerate(FILES)]
    return [json.dumps(entries, indent=2).encode(), json.dumps(plain, indent=1).encode()]


@cache
def json_lines() -> list[bytes]:
    """Lines with paths, and lines with the pictures themselves."""
    paths = [{"image": name, "text": "t"} for name in FILES]
    inline = [{"id": n, "jpg": base64.b64encode(image(n)).decode()} for n in range(4)]
    return [b"".join(json.dumps(line).encode() + b"\n" for line in x) for x in (paths, inline)]


@cache
def caption_files() -> list[bytes]:
    """A mapping and a list."""
    mapping = {name: [f"caption of {name}"] for name in FILES}
    return [json.dumps(mapping, indent=1).encode(), json_lists()[0]]


@cache
def parquets() -> list[bytes]:
    """Pictures as bytes, in a struct as Hugging Face has them, and as paths."""
    data = [image(n) for n in range(6)]
    names = [f"{n}.png" for n in range(6)]
    structs = [{"bytes": d, "path": n} for d, n in zip(data, names, strict=True)]
    tables = [
        pa.table({"image": pa.array(structs), "caption": names, "id": list(range(6))}),
        pa.table({"jpg": data, "text": [["a", "b"]] * 6, "key": names}),
        pa.table({"path": pa.array(list(FILES) * 2).dictionary_encode(), "caption": names}),
    ]
    return [_parquet(table, compression) for table in tables for compression in ("snappy", "none")]


@cache
def shards() -> list[bytes]:
    """Shards of PAD records."""
    table = records_to_table(example_records())
    return [_parquet(table, compression) for compression in ("zstd", "none")]


@cache
def checkpoints() -> list[bytes]:
    """Checkpoints in torch's two layouts and as safetensors."""
    import torch
    from safetensors.torch import save

    state = {"a.weight": torch.arange(6.0).reshape(2, 3), "a.bias": torch.ones(2)}
    made = [save(state)]
    for new in (True, False):
        buffer = io.BytesIO()
        torch.save({"model": state}, buffer, _use_new_zipfile_serialization=new)
        made.append(buffer.getvalue())
    return made


def _parquet(table: pa.Table, compression: str) -> bytes:
    buffer = io.BytesIO()
    pq.write_table(table, buffer, compression=compression, row_group_size=4)
    return buffer.getvalue()
