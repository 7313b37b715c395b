"""Images in WebDataset tars: names, captions beside them, and where the bytes lie."""

from __future__ import annotations

import json
import logging
import os
import posixpath
import struct
import tarfile
from collections.abc import Generator, Iterator, Sequence
from concurrent.futures import Future, ThreadPoolExecutor
from dataclasses import dataclass
from itertools import groupby
from typing import BinaryIO

from pad_pipeline import storage
from pad_pipeline.errors import UserError, one_line
from pad_pipeline.images.formats import IMAGE_SUFFIXES
from pad_pipeline.sources.entries import as_captions, captions_of
from pad_pipeline.sources.left_out import LeftOut
from pad_pipeline.sources.members import check_member, link_message, member_names, member_spans
from pad_pipeline.sources.ranges import Item, read_ranges
from pad_pipeline.sources.rows import (
    ManifestRow,
    captioned,
    in_container,
    is_image_name,
    stem_below,
)

logger = logging.getLogger(__name__)

_LONGEST_CAPTION_FILE = 1 << 20
_REMOTE_TARS_AT_ONCE = 8
_BLOCK = 512
_USTAR = slice(257, 262)
_SIDECARS = (".txt", ".json", ".cls")
"""Endings of what stands beside a WebDataset's images: captions and classes."""
_LONGEST_HEADER = 1 << 20

# What tarfile raises on bytes that are not a tar, beside OSError.
_DAMAGED = (
    *(tarfile.TarError, ValueError, EOFError, struct.error),
    *(LookupError, OverflowError, MemoryError, RecursionError),
)


class _TarInfo(tarfile.TarInfo):
    """tarfile's header without its trust: sizes below zero, which lead it in circles, and extended
    headers that would fill the memory are errors."""

    def _proc_member(self, tar: tarfile.TarFile) -> tarfile.TarInfo:
        if self.size < 0:
            raise tarfile.ReadError(f"a member of {self.size:,} bytes")
        if self.type in _EXTENDED_HEADERS and self.size > _LONGEST_HEADER:
            raise tarfile.ReadError(f"an extended header of {self.size:,} bytes")
        member = super()._proc_member(tar)  # pyright: ignore[reportAttributeAccessIssue]
        if member.size < 0:  # as an extended header may say
            raise tarfile.ReadError(f"a member of {member.size:,} bytes")
        return member


_EXTENDED_HEADERS = (
    *(tarfile.XHDTYPE, tarfile.XGLTYPE, tarfile.SOLARIS_XHDTYPE),
    *(tarfile.GNUTYPE_LONGNAME, tarfile.GNUTYPE_LONGLINK),
)


@dataclass(frozen=True, slots=True)
class TarMember:
    """A regular file in a tar: its name, the byte offset of its data, its size in bytes."""

    name: str
    offset: int
    size: int


def tar_members(url: str) -> Iterator[TarMember]:
    """The regular files of an uncompressed tar, or of several in one file, in their order.

    Raises `UserError` with the byte position where the tar is damaged or cut off, and for links,
    devices and names that leave the archive.
    """
    with storage.open_read(url) as file:
        start: int | None = 0
        while start is not None:
            file.seek(start)
            start = yield from _members_of_one(url, file)


def _members_of_one(url: str, file: BinaryIO) -> Generator[TarMember, None, int | None]:
    """The members of the tar where `file` stands; returns where another one begins behind it."""
    try:
        # Names matter to people only; the bytes are found by offset, so any encoding will do.
        tar = tarfile.open(  # noqa: SIM115
            fileobj=file, mode="r:", errors="backslashreplace", tarinfo=_TarInfo
        )
    except _DAMAGED as error:
        raise UserError(
            f"{url} is not an uncompressed tar (a compressed one cannot be read by position: "
            f"decompress it): {one_line(error)}"
        ) from error
    while True:
        position = tar.offset
        try:
            member = tar.next()
        except _DAMAGED as error:
            raise UserError(
                f"{url} is damaged or cut off at byte {position}: {one_line(error)}"
            ) from error
        # tarfile would keep every header
        tar.members.clear()  # pyright: ignore[reportAttributeAccessIssue]
        if member is None:
            break
        if member.isdir():
            continue
        name = member.name.removeprefix("./")
        check_member(name, url)
        if member.islnk() or member.issym():
            raise UserError(link_message(name, url))
        if not member.isreg() or member.issparse():
            raise UserError(
                f"{url}: member {name!r} is a device, pipe or sparse file; expected plain files"
            )
        yield TarMember(name, member.offset_data, member.size)
    # tarfile takes a damaged header for the end; the real end is a block of zeros, or nothing.
    file.seek(tar.offset)
    block = file.read(_BLOCK)
    if block.strip(b"\0"):
        raise UserError(f"{url} is damaged at byte {tar.offset}: a tar header was expected here")
    return _next_tar(url, file)


def _next_tar(url: str, file: BinaryIO) -> int | None:
    """Where a tar begins behind the zeros at the end of another, as `cat` joins them."""
    while chunk := file.read(_LONGEST_HEADER):
        if rest := chunk.lstrip(b"\0"):
            end = file.tell()
            start = (end - len(rest)) // _BLOCK * _BLOCK
            file.seek(start)
            if file.read(_BLOCK)[_USTAR] == b"ustar":
                return start
            size = file.seek(0, os.SEEK_END) - start
            logger.warning("%s: %s bytes behind its end are no tar", url, f"{size:,}")
            return None
    return None


def list_tars(urls: Sequence[str], base: str, left_out: LeftOut) -> Iterator[ManifestRow]:
    """A row per image of WebDataset shards, shard by shard.

    Ids are `<shard's path below base without .tar>/<member>`. The caption is the `.txt`, else the
    "caption" of the `.json`, beside the image under the same key (or `.caption.txt`). Of members of
    one name the last counts, as for tar.
    """
    if not urls or storage.local_path(urls[0]) is not None:
        for url in urls:
            yield from list_tar(url, base, left_out)
        return
    # A remote tar has to be read through to find its headers, so several are read at once.
    with ThreadPoolExecutor(_REMOTE_TARS_AT_ONCE) as pool:
        waiting: list[Future[list[ManifestRow]]] = []
        for url in urls:
            waiting.append(pool.submit(lambda url: list(list_tar(url, base, left_out)), url))
            if len(waiting) == _REMOTE_TARS_AT_ONCE:
                yield from waiting.pop(0).result()
        for future in waiting:
            yield from future.result()


def list_tar(url: str, base: str, left_out: LeftOut) -> Iterator[ManifestRow]:
    """The rows of one shard; see `list_tars`."""
    shard, num_replaced = stem_below(url, base), 0
    with storage.open_read(url) as file:
        for key, group in groupby(tar_members(url), key=lambda member: _key(member.name)):
            members: dict[str, TarMember] = {}
            for member in group:
                num_replaced += member.name in members
                members[member.name] = member
            chosen = _images(key, members)
            for name in members.keys() - {member.name for member in chosen}:
                if not chosen or not name.lower().endswith(_SIDECARS):
                    left_out.add(name)
            for member in chosen:
                caption_file = _caption_file(key, member.name, members)
                captions: tuple[str, ...] = ()
                if caption_file is not None:
                    file.seek(caption_file.offset)
                    text = file.read(min(caption_file.size, _LONGEST_CAPTION_FILE))
                    captions = _captions(caption_file.name, text)
                yield ManifestRow(
                    f"{shard}/{member.name}",
                    in_container("tar", member.name, url),
                    offset=member.offset,
                    size=member.size,
                    **captioned(captions),
                )
    if num_replaced:
        logger.warning("%s: %s members replace earlier ones of their name", url, num_replaced)


def read_tar(url: str, rows: Sequence[ManifestRow]) -> list[Item]:
    """The bytes of each row's member; an exception in place of one that cannot be read."""

    def index(url: str) -> dict[str, tuple[int, int]]:
        return {member.name: (member.offset, member.size) for member in tar_members(url)}

    spans = member_spans(url, rows, member_names(rows), index)
    return [
        OSError(f"{url} is cut off: {len(item):,} of {span[1]:,} bytes")
        if isinstance(item, bytes) and not isinstance(span, Exception) and len(item) < span[1]
        else item
        for item, span in zip(read_ranges(url, spans), spans, strict=True)
    ]


def _key(name: str) -> str:
    """WebDataset's key of a member: its path up to the first dot of the last component."""
    folder, _, base = name.rpartition("/")
    return f"{folder}/{base.partition('.')[0]}"


def _images(key: str, members: dict[str, TarMember]) -> list[TarMember]:
    """The images of one sample; `x.mask.png` is a further column of the sample that has `x.jpg`."""
    images = [member for name, member in members.items() if is_image_name(name)]
    plain = [m for m in images if f"/{m.name}".lower().endswith(_plain_endings(key))]
    return plain or images


def _plain_endings(key: str) -> tuple[str, ...]:
    base = key.rpartition("/")[2].lower()
    return tuple(f"/{base}{suffix}" for suffix in IMAGE_SUFFIXES)


def _caption_file(key: str, image: str, members: dict[str, TarMember]) -> TarMember | None:
    name = key.removeprefix("/")
    stems = (posixpath.splitext(image)[0], name, f"{name}.caption")
    names = [(stem + suffix).lower() for suffix in (".txt", ".json") for stem in stems]
    lower = {name.lower(): member for name, member in members.items()}
    return next((lower[name] for name in names if name in lower), None)


def _captions(name: str, data: bytes) -> tuple[str, ...]:
    try:
        text = data.decode("utf-8-sig")
        if name.lower().endswith(".txt"):
            return (text.rstrip("\r\n"),)
        entry = json.loads(text)
    except (ValueError, RecursionError):
        logger.warning("no caption: %r is not valid UTF-8 text or JSON", name)
        return ()
    return captions_of(entry) if isinstance(entry, dict) else as_captions(entry)
