"""Valid files made invalid: bytes flipped, cut and spliced, and fields of each format replaced.

Every change is drawn from one `random.Random`, so that a seed names an input for ever.
"""

from __future__ import annotations

import json
import struct
import zlib
from collections.abc import Callable
from random import Random
from typing import Any

Mutate = Callable[[Random, bytes], bytes]

_NUMBERS = (0, 1, 2, 0x7F, 0x80, 0xFF, 0x7FFF, 0x8000, 0xFFFF, 0x7FFFFFFF, 0x80000000, 0xFFFFFFFF)
_LARGE = (1 << 62, (1 << 63) - 1, 1 << 63, (1 << 64) - 1)
_NAMES = (
    *(
        "../../x.png",
        "/etc/passwd.png",
        "a\\b.png",
        "C:\\x.png",
        "..",
        ".",
        "",
        "\0.png",
        "a//b.png",
    ),
    *("x" * 300 + ".png", "d/" * 600 + "x.png", "new\nline.png", "‮gnp.x", "\udcff.png", "~/x.png"),
    *("reference://a::x.json", "zip://a.png::x.zip", "http://[::1", "file:///x.png", "a::b://c"),
)
VALUES: tuple[Any, ...] = (
    *(None, True, False, 0, -1, 1 << 70, -0.0, 1e308, float("nan"), float("inf"), [], {}, ""),
    *([[]], [None], {"a": [{}]}, "text", ["a", 1], {"from": "gpt", "value": "v"}, *_NAMES),
)
"""What a field of JSON is replaced with."""


def flip(rng: Random, data: bytes) -> bytes:
    """Some bits or bytes changed, half of the time in the first or last 200 bytes."""
    changed = bytearray(data)
    for _ in range(rng.choice((1, 1, 2, 4, 16))):
        at = _place(rng, len(changed))
        if changed:
            changed[at] = rng.choice((changed[at] ^ (1 << rng.randrange(8)), rng.randrange(256)))
    return bytes(changed)


def number(rng: Random, data: bytes) -> bytes:
    """Two, four or eight bytes replaced with a number at an edge of its range."""
    size, code = rng.choice(((2, "H"), (4, "I"), (8, "Q")))
    at, order = _place(rng, len(data)), rng.choice("<>")
    value = rng.choice(_NUMBERS if size < 8 else _NUMBERS + _LARGE) % (1 << 8 * size)
    return data[:at] + struct.pack(order + code, value) + data[at + size :]


def cut(rng: Random, data: bytes) -> bytes:
    """The end, the beginning or a piece in the middle taken away."""
    first, last = sorted((rng.randrange(len(data) + 1), rng.randrange(len(data) + 1)))
    return rng.choice((data[:last], data[first:], data[:first] + data[last:]))


def splice(rng: Random, data: bytes) -> bytes:
    """A piece of the file put elsewhere, over what stood there or between, once or many times."""
    first, last = sorted((_place(rng, len(data)), _place(rng, len(data))))
    piece = data[first:last][:4096] * rng.choice((1, 1, 2, 100))
    at = _place(rng, len(data))
    return data[:at] + piece + data[at + rng.choice((0, len(piece))) :]


def _place(rng: Random, size: int) -> int:
    if not size:
        return 0
    where = rng.randrange(4)
    near = min(size, 200)
    if where == 0:
        return rng.randrange(near)
    return size - 1 - rng.randrange(near) if where == 1 else rng.randrange(size)


def zip_field(rng: Random, data: bytes) -> bytes:
    """A field of a local header, a directory entry or the end record replaced."""
    records = {b"PK\3\4": 30, b"PK\1\2": 46, b"PK\5\6": 22, b"PK\6\6": 56, b"PK\6\7": 20}
    magic = rng.choice(list(records))
    starts = [at for at in range(len(data)) if data.startswith(magic, at)]
    if not starts:
        return number(rng, data)
    at = rng.choice(starts) + rng.randrange(4, records[magic])
    return _replaced(rng, data, at)


def tar_field(rng: Random, data: bytes) -> bytes:
    """A field of a header replaced, its checksum made right again."""
    headers = [at for at in range(0, len(data) - 511, 512) if data[at + 257 : at + 262] == b"ustar"]
    if not headers:
        return flip(rng, data)
    at = rng.choice(headers)
    header = bytearray(data[at : at + 512])
    fields = {"name": (0, 100), "size": (124, 12), "type": (156, 1), "link": (157, 100)}
    fields |= {"prefix": (345, 155), "mtime": (136, 12), "rest": (257, 8)}
    start, size = fields[rng.choice(list(fields))]
    if start == 156:
        value = bytes([rng.choice(b"0123457LKxgSDNVM\0\xff")])
    elif start in (124, 136) and rng.random() < 0.7:
        value = rng.choice(
            (b"\x80" + b"\xff" * 11, b"\xff" * 12, b"\xff" * 11 + b"\0", b"77777777777\0", b"-1\0")
        ) or bytes(12)
    else:
        value = rng.choice((*_NAMES, "7" * 12, "\xff" * 12)).encode("utf-8", "surrogatepass")
    header[start : start + size] = value[:size].ljust(size, b"\0")
    header[148:156] = b" " * 8
    header[148:156] = f"{sum(header):06o}\0 ".encode()
    return data[:at] + bytes(header) + data[at + 512 :]


def pax_field(rng: Random, data: bytes) -> bytes:
    """A record of an extended header replaced: another key, value or stated length."""
    at = data.find(b" path=")
    if at < 0:
        return tar_field(rng, data)
    key = rng.choice(
        (b"size", b"path", b"GNU.sparse.map", b"GNU.sparse.major", b"linkpath", b"hdr")
    )
    value = rng.choice(
        (b"-1", b"-512", b"99999999999", b"x", b"", b"1,2", b"\xff\xfe", b"../../x.jpg")
    )
    body = b" " + key + b"=" + value + b"\n"
    length = rng.choice((len(body) + 2, 0, 1, 3, 10**9))
    record = str(length).encode() + body
    start = data.rfind(b"\0", 0, at) + 1
    return data[:start] + record + data[start + len(record) :]


def png_chunk(rng: Random, data: bytes) -> bytes:
    """A chunk changed, doubled or given another type, its checksum made right again."""
    chunks, at = [], 8
    while at + 12 <= len(data):
        size = int.from_bytes(data[at : at + 4], "big")
        chunks.append((data[at + 4 : at + 8], data[at + 8 : at + 8 + size]))
        at += size + 12
    if not chunks:
        return flip(rng, data)
    where = rng.randrange(len(chunks))
    kind, body = chunks[where]
    kinds = (
        b"IHDR",
        b"PLTE",
        b"tRNS",
        b"iCCP",
        b"zTXt",
        b"iTXt",
        b"eXIf",
        b"fcTL",
        b"acTL",
        b"fdAT",
    )
    action = rng.randrange(4)
    if action == 0:
        chunks[where] = (kind, number(rng, body) if body else b"\xff")
    elif action == 1:
        chunks[where] = (kind, cut(rng, body))
    elif action == 2:
        chunks.insert(where, (kind, body))
    else:
        junk = rng.choice((b"", b"icc\0\0", zlib.compress(b"\0" * 5000), body))
        chunks.insert(where, (rng.choice(kinds), junk))
    parts = [data[:8]]
    for name, content in chunks:
        checksum = zlib.crc32(name + content)
        parts.append(struct.pack(">I", len(content)) + name + content + struct.pack(">I", checksum))
    return b"".join(parts)


def jxl_header(rng: Random, data: bytes) -> bytes:
    """Bits of the codestream's header changed, where size, colour and animation stand."""
    at = data.find(b"\xff\x0a") + 2
    header = bytearray(data[at : at + 24])
    for _ in range(rng.choice((1, 2, 5))):
        if header:
            header[rng.randrange(len(header))] ^= 1 << rng.randrange(8)
    return data[:at] + bytes(header) + data[at + 24 :]


def _replaced(rng: Random, data: bytes, at: int) -> bytes:
    size, code = rng.choice(((2, "H"), (4, "I")))
    value = rng.choice(_NUMBERS) % (1 << 8 * size)
    return data[:at] + struct.pack("<" + code, value) + data[at + size :]


_ODD_JSON = (
    *(b"NaN", b"-Infinity", b"1e999", b"9" * 5000, b'"\\ud800"', b'"\\u0000"', b"[" * 3000, b"{}"),
    *(
        b'{"a":' * 2000,
        b"\xef\xbb\xbf",
        b"\xff\xfe",
        b"\r\n",
        b"\0",
        b'{"image":1,"image":2}',
        b",",
    ),
    *(b"]", b"}", b'"', b"\\", b"// x", b"'", b"tru", b"-", b"0.", b"1e", b"[" * 20 + b"]" * 20),
)


def json_text(rng: Random, data: bytes) -> bytes:
    """Odd text put into JSON, in the place of a token half of the time."""
    at = _place(rng, len(data))
    marks = [i for i, byte in enumerate(data[:20_000]) if byte in b',:[]{}"']
    if marks and rng.random() < 0.7:
        at = rng.choice(marks) + 1
    return data[:at] + rng.choice(_ODD_JSON) + data[at + rng.choice((0, 0, 1, 5)) :]


def json_field(rng: Random, data: bytes) -> bytes:
    """Fields of a JSON list or of lines of JSON replaced, left out or renamed."""
    lines = not data.lstrip().startswith((b"[\n", b"[{", b"{\n"))
    try:
        value = [json.loads(x) for x in data.splitlines()] if lines else json.loads(data)
    except (ValueError, RecursionError):
        return json_text(rng, data)
    for _ in range(rng.choice((1, 1, 3))):
        value = _changed(rng, value)
    try:
        if lines and isinstance(value, list):
            return b"\n".join(json.dumps(line).encode() for line in value) + b"\n"
        return json.dumps(value, ensure_ascii=rng.random() < 0.5).encode("utf-8", "surrogatepass")
    except RecursionError:
        return data


def _changed(rng: Random, value: Any) -> Any:
    if not isinstance(value, list | dict) or not value or rng.random() < 0.15:
        return rng.choice(VALUES)
    if isinstance(value, list):
        at = rng.randrange(len(value))
        return [*value[:at], _changed(rng, value[at]), *value[at + 1 :]]
    key = rng.choice(list(value))
    if rng.random() < 0.15:
        return {k: v for k, v in value.items() if k != key}
    if rng.random() < 0.15:
        names = ("image", "path", "id", "image_id", "caption", "conversations", "jpg", "bytes")
        return {**value, rng.choice(names): rng.choice(VALUES)}
    return {**value, key: _changed(rng, value[key])}


ANY: tuple[Mutate, ...] = (flip, number, cut, splice)
"""Changes that know nothing of the format."""


def mutate(rng: Random, data: bytes, own: tuple[Mutate, ...] = ()) -> bytes:
    """One to three changes; those of the format, where it has some, most of the time."""
    for _ in range(rng.choice((1, 1, 1, 2, 3))):
        chosen = own if own and rng.random() < 0.6 else ANY
        data = rng.choice(chosen)(rng, data)
    return data
