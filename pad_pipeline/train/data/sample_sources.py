"""Where samples come from: data sets of PAD records, or conversations and captions as JSON."""

from __future__ import annotations

import hashlib
import json
from collections.abc import Iterator, Mapping, Sequence
from itertools import chain, islice
from typing import Any

from pad_pipeline import storage
from pad_pipeline.cognition.folder import MANIFEST, image_places, is_conversations, read_finished
from pad_pipeline.dataset.chooser import LEFT_OUT, Chooser
from pad_pipeline.dataset.reader import iter_whole_records, open_dataset
from pad_pipeline.dataset.record_images import find_record_image
from pad_pipeline.errors import UserError
from pad_pipeline.records import PadRecord
from pad_pipeline.review.choice import ReviewChoice
from pad_pipeline.review.log import review_url, review_version
from pad_pipeline.sources import ManifestRow
from pad_pipeline.sources.conversations import (
    IMAGE,
    ConversationError,
    has_conversation,
    image_paths,
    read_conversation,
)
from pad_pipeline.sources.entries import (
    CAPTION_KEYS,
    ID_KEYS,
    PATH_KEYS,
    caption_of,
    describe,
    first_of,
    read_entries,
)
from pad_pipeline.sources.manifests import make_locator
from pad_pipeline.sources.rows import relative_id
from pad_pipeline.train.choices import TrainingStage, reads_conversations
from pad_pipeline.train.data.left_out import LeftOutSamples
from pad_pipeline.train.data.samples import TrainingSample
from pad_pipeline.train.text.templates import TextError, check_turns

_SAMPLED = 20
"""Entries from whose paths the place of the images is found."""

_OTHER_MEDIA = ("video", "videos", "audio", "audios")
_IN_CAPTION = "with <image> in the caption"


def read_samples(
    source: str,
    images: str | None,
    stage: TrainingStage,
    left_out: LeftOutSamples,
    review: ReviewChoice | None = None,
) -> Iterator[TrainingSample]:
    """The samples of `source` in order; `left_out` counts by reason what cannot be trained on.

    `source` is a data set of PAD records, of which `review` says which marks count, or, without
    regions, a list of conversations (stage 1 takes captions too) as JSON or JSON Lines, or a folder
    that `conversations` wrote; `images` is where the images are. Raises `UserError` for a source
    that is neither.
    """
    if is_list(source):
        return _listed(source, images, stage, left_out)
    if reads_conversations(stage):
        raise UserError(
            f"expected conversations as .json, .jsonl or a folder of them, found {source}; stage 2 "
            "trains on conversations, stage 1 (`train pretrain`) on annotations"
        )
    return _annotated(source, images, left_out, review)


def is_list(source: str) -> bool:
    """Whether a source is a file of conversations or captions, by its name, or a folder of them."""
    return source.lower().endswith((".json", ".jsonl", ".ndjson")) or is_conversations(source)


def as_sources(source: str | Sequence[str]) -> tuple[str, ...]:
    """One source or several as several."""
    return (source,) if isinstance(source, str) else tuple(source)


def source_digest(
    source: str | Sequence[str], images: str | None, review: ReviewChoice | None = None
) -> str:
    """A checksum that changes with the samples of `source`, which may be several."""
    if not isinstance(source, str):
        digests = [source_digest(each, images, review) for each in source]
        return hashlib.sha256("\n".join(digests).encode()).hexdigest()[:16]
    if is_list(source):
        is_folder = is_conversations(source)
        content = storage.version(storage.join(source, MANIFEST) if is_folder else source)
    else:
        dataset = open_dataset(source)
        rows = [[shard.name, shard.num_rows] for shard in dataset.files]
        content = json.dumps([dataset.manifest.get("shards"), dataset.state, rows])
        if review is not None and review.is_wanted:
            content += review_version(review_url(source, review.review))
    return hashlib.sha256(f"{source}\n{images}\n{content}".encode()).hexdigest()[:16]


def _annotated(
    source: str, images: str | None, left_out: LeftOutSamples, review: ReviewChoice | None
) -> Iterator[TrainingSample]:
    dataset = open_dataset(source)
    chooser = Chooser(source, review=review)
    if images is not None and not storage.exists(images):
        raise UserError(f"no such folder or archive of images: {images}")

    def dropped(record: PadRecord) -> None:
        left_out.add(f"that are {LEFT_OUT} in the review", record.image_id)

    for chosen in chooser.choose(iter_whole_records(dataset), dropped):
        record = chosen.record
        if record.status == "failed":
            left_out.add("that failed when they were annotated", record.image_id)
        elif not (record.caption or "").strip():
            left_out.add("without a caption", record.image_id)
        elif IMAGE in str(record.caption):
            left_out.add(_IN_CAPTION, record.image_id, is_bad=True)
        elif (image := find_record_image(record, images)) is None:
            left_out.add(f"whose image is not in {images}", record.image_id)
        else:
            yield TrainingSample(
                id=record.image_id,
                image=image,
                caption=record.caption,
                width=record.width,
                height=record.height,
                tags=[region.tag for region in record.labels],
                masks=[region.rle_mask for region in record.labels],
            )


def _listed(
    source: str, images: str | None, stage: TrainingStage, left_out: LeftOutSamples
) -> Iterator[TrainingSample]:
    is_folder = is_conversations(source)
    entries = enumerate(read_finished(source) if is_folder else read_entries(source), 1)
    first = list(islice(entries, _SAMPLED))
    paths = [path for _, entry in first for path in _paths(entry) if not _is_inline(path)]
    base, images = image_places(source, images) if is_folder else (source, images)
    locate = make_locator(base, images, paths)
    read = _conversation if reads_conversations(stage) else _captioned
    for number, entry in chain(first, entries):
        name = _name(number, entry)
        try:
            if not isinstance(entry, Mapping):
                raise ConversationError(f"it is {describe(entry)}; expected an object")
            if any(entry.get(key) for key in _OTHER_MEDIA):
                raise _Unusable("with a video or sound, which the model does not take")
            text, path = read(entry)
            if not _is_unicode(text):
                raise ConversationError("its text has half a surrogate pair, which is no character")
        except (ConversationError, TextError) as error:
            left_out.add("that cannot be read", f"entry {number}: {error}", is_bad=True)
            continue
        except _Unusable as error:
            left_out.add(error.reason, name, is_bad=error.is_bad)
            continue
        image = None
        if path is not None:
            name = relative_id(path)
            uri, offset, size = locate(path)
            image = ManifestRow(name, uri, None, offset, size)
        yield TrainingSample(id=name, image=image, **text)


def _is_unicode(text: Mapping[str, Any]) -> bool:
    """Whether a caption or turns can be written as UTF-8."""
    try:
        json.dumps(text, ensure_ascii=False).encode()
    except UnicodeEncodeError:
        return False
    return True


class _Unusable(Exception):
    """Why a whole entry is left out."""

    def __init__(self, reason: str, *, is_bad: bool = True) -> None:
        super().__init__(reason)
        self.reason = reason
        self.is_bad = is_bad


def _captioned(entry: Mapping[str, Any]) -> tuple[dict[str, Any], str]:
    """Stage 1: the caption and the path of the image."""
    if has_conversation(entry):
        conversation = read_conversation(entry)
        caption, paths = conversation.first_answer, conversation.images
    else:
        if first_of(entry, (*PATH_KEYS, "images", *CAPTION_KEYS)) is None:
            read_conversation(entry)  # says what is expected
        caption, paths = caption_of(entry), image_paths(entry, (*PATH_KEYS, "images"))
    if not paths:
        raise _Unusable("without an image", is_bad=False)
    if not (caption or "").strip():
        raise _Unusable("without a caption", is_bad=False)
    if IMAGE in str(caption):
        raise _Unusable(_IN_CAPTION)
    return {"caption": caption}, _only(paths)


def _conversation(entry: Mapping[str, Any]) -> tuple[dict[str, Any], str | None]:
    """Stage 2: the turns and the path of the image; None for text alone."""
    conversation = read_conversation(entry)
    turns = [{"from": turn.role, "value": turn.text} for turn in conversation.turns]
    check_turns(turns)
    if not conversation.images:
        if conversation.num_placeholders:
            raise _Unusable("with <image> and no image")
        return {"turns": turns}, None
    path = _only(conversation.images)
    showing = [turn.role for turn in conversation.turns if IMAGE in turn.text]
    if "assistant" in showing:
        raise _Unusable("with an image and <image> in an answer")
    if not showing:
        raise _Unusable("whose image no turn shows with <image>")
    if len(showing) > 1:
        raise _Unusable("with <image> in several turns for one image")
    return {"turns": turns}, path


def _only(paths: Sequence[str]) -> str:
    """The one path; raises `_Unusable` where there are several, or the image is no file."""
    if len(paths) > 1:
        raise _Unusable("with several images, where the model takes one")
    if _is_inline(paths[0]):
        raise _Unusable("whose image stands in the entry itself and not in a file")
    return paths[0]


def _is_inline(path: str) -> bool:
    return path.startswith("data:")


def _paths(entry: Any) -> tuple[str, ...]:
    """The paths of an entry's images, () where it cannot be read."""
    if not isinstance(entry, Mapping):
        return ()
    try:
        if has_conversation(entry):
            return read_conversation(entry).images
        return image_paths(entry, (*PATH_KEYS, "images"))
    except ConversationError:
        return ()


def _name(number: int, entry: Any) -> str:
    """The id of an entry, else its image or its number."""
    name = first_of(entry, (*ID_KEYS, *PATH_KEYS)) if isinstance(entry, Mapping) else None
    return str(name)[:80] if isinstance(name, str | int | float) else f"entry {number}"
