"""Images in ZIP files and WebDataset tars: names, captions and where the bytes lie."""

from __future__ import annotations

import json
import logging
import os
import posixpath
import stat
import struct
import tarfile
import zipfile
from collections.abc import Iterator, Sequence
from concurrent.futures import Future, ThreadPoolExecutor
from dataclasses import dataclass
from itertools import groupby

from pad_pipeline import storage
from pad_pipeline.errors import UserError, one_line
from pad_pipeline.images.formats import IMAGE_SUFFIXES
from pad_pipeline.sources.entries import caption_of
from pad_pipeline.sources.rows import ManifestRow, in_container, is_image_name

logger = logging.getLogger(__name__)

_LONGEST_CAPTION_FILE = 1 << 20
_REMOTE_TARS_AT_ONCE = 8
_BLOCK = 512
_LONGEST_TAR_HEADER = 1 << 20

# What the two modules raise on bytes that are none of theirs, beside OSError.
_DAMAGED_ZIP = (
    *(zipfile.BadZipFile, NotImplementedError, ValueError, EOFError, struct.error),
    *(LookupError, OverflowError, MemoryError),
)
_DAMAGED_TAR = (
    *(tarfile.TarError, ValueError, EOFError, struct.error),
    *(LookupError, OverflowError, MemoryError, RecursionError),
)


def list_zip(url: str) -> Iterator[ManifestRow]:
    """A row per image of a ZIP file, in the order of its directory; ids are the members' paths."""
    for name, (offset, size) in zip_index(url).items():
        if is_image_name(name):
            yield ManifestRow(name, in_container("zip", name, url), None, offset, size)


def zip_index(url: str) -> dict[str, tuple[int, int]]:
    """Member name -> (byte offset of its local header, compressed size), folders left out.

    Raises `UserError` for a damaged file and for members that are links or whose name leaves the
    archive.
    """
    index = {}
    with storage.open_read(url) as file:
        try:
            members = zipfile.ZipFile(file).infolist()
            end = file.seek(0, os.SEEK_END)
        except _DAMAGED_ZIP as error:
            raise UserError(
                f"{url} is not a readable ZIP file (cut off or damaged): {error}"
            ) from error
    for member in members:
        if not member.filename.endswith("/"):
            _check_member(member.filename, url)
            if not 0 <= member.header_offset < end:
                raise UserError(
                    f"{url} is damaged: its directory places {member.filename!r} outside the file"
                )
            if stat.S_ISLNK(member.external_attr >> 16):
                raise UserError(_link_refused(member.filename, url))
            index[member.filename] = (member.header_offset, member.compress_size)
    return index


class _TarInfo(tarfile.TarInfo):
    """tarfile's header without its trust: sizes below zero, which lead it in circles, and extended
    headers that would fill the memory are errors."""

    def _proc_member(self, tar: tarfile.TarFile) -> tarfile.TarInfo:
        if self.size < 0:
            raise tarfile.ReadError(f"a member of {self.size:,} bytes")
        if self.type in _EXTENDED_HEADERS and self.size > _LONGEST_TAR_HEADER:
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
    """The regular files of an uncompressed tar in their order.

    Raises `UserError` with the byte position where the tar is damaged or cut off, and for links,
    devices and names that leave the archive.
    """
    with storage.open_read(url) as file:
        try:
            # Names matter to people only; the bytes are found by offset, so any encoding will do.
            tar = tarfile.open(  # noqa: SIM115
                fileobj=file, mode="r:", errors="backslashreplace", tarinfo=_TarInfo
            )
        except _DAMAGED_TAR as error:
            raise UserError(
                f"{url} is not an uncompressed tar (a compressed one cannot be read by position: "
                f"decompress it): {one_line(error)}"
            ) from error
        while True:
            position = tar.offset
            try:
                member = tar.next()
            except _DAMAGED_TAR as error:
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
            _check_member(name, url)
            if member.islnk() or member.issym():
                raise UserError(_link_refused(name, url))
            if not member.isreg() or member.issparse():
                raise UserError(
                    f"{url}: member {name!r} is a device, pipe or sparse file; expected plain files"
                )
            yield TarMember(name, member.offset_data, member.size)
        # tarfile takes a damaged header for the end; the real end is a block of zeros, or nothing.
        file.seek(tar.offset)
        block = file.read(_BLOCK)
        if block.strip(b"\0"):
            raise UserError(
                f"{url} is damaged at byte {tar.offset}: no tar header where one was due"
            )


def list_tars(urls: Sequence[str], base: str) -> Iterator[ManifestRow]:
    """A row per image of WebDataset shards, shard by shard.

    Ids are `<shard's path below base without .tar>/<member>`. The caption is the `.txt`, else the
    "caption" of the `.json`, beside the image under the same key.
    """
    if not urls or storage.local_path(urls[0]) is not None:
        for url in urls:
            yield from list_tar(url, base)
        return
    # A remote tar has to be read through to find its headers, so several are read at once.
    with ThreadPoolExecutor(_REMOTE_TARS_AT_ONCE) as pool:
        waiting: list[Future[list[ManifestRow]]] = []
        for url in urls:
            waiting.append(pool.submit(lambda url: list(list_tar(url, base)), url))
            if len(waiting) == _REMOTE_TARS_AT_ONCE:
                yield from waiting.pop(0).result()
        for future in waiting:
            yield from future.result()


def list_tar(url: str, base: str) -> Iterator[ManifestRow]:
    """The rows of one shard; see `list_tars`."""
    shard = stem_below(url, base)
    with storage.open_read(url) as file:
        for key, group in groupby(tar_members(url), key=lambda member: _key(member.name)):
            members = {member.name: member for member in group}
            for member in _images(key, members):
                caption_file = _caption_file(key, member.name, members)
                caption = None
                if caption_file is not None:
                    file.seek(caption_file.offset)
                    text = file.read(min(caption_file.size, _LONGEST_CAPTION_FILE))
                    caption = _caption(caption_file.name, text)
                yield ManifestRow(
                    f"{shard}/{member.name}",
                    in_container("tar", member.name, url),
                    caption,
                    member.offset,
                    member.size,
                )


def stem_below(url: str, base: str) -> str:
    """The file's path below `base` without its ending, as a prefix for ids."""
    relative = url.removeprefix(base.rstrip("/") + "/") if base else url
    return posixpath.splitext(relative)[0].strip("/")


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
    stems = (posixpath.splitext(image)[0], key.removeprefix("/"))
    names = [stem + suffix for suffix in (".txt", ".json") for stem in stems]
    return next((members[name] for name in names if name in members), None)


def _caption(name: str, data: bytes) -> str | None:
    try:
        text = data.decode("utf-8-sig")
        if name.endswith(".txt"):
            return text.rstrip("\r\n")
        entry = json.loads(text)
    except (ValueError, RecursionError):
        logger.warning("no caption: %r is not valid UTF-8 text or JSON", name)
        return None
    return caption_of(entry) if isinstance(entry, dict) else None


def _check_member(name: str, url: str) -> None:
    if name.startswith("/") or ".." in name.split("/") or not name.strip("/"):
        raise UserError(
            f"{url}: member {name!r} has a name that leaves the archive; expected relative names "
            f'without ".."'
        )


def _link_refused(name: str, url: str) -> str:
    return (
        f"{url}: member {name!r} is a link; expected plain files (pack again with links replaced "
        f"by their files, for tar: --dereference --hard-dereference)"
    )
