"""COCO files are shown like data sets: imported once, into a cache folder."""

from __future__ import annotations

import hashlib
import logging

from pad_pipeline import storage
from pad_pipeline.errors import UserError
from pad_pipeline.importer.formats import import_labels
from pad_pipeline.importer.options import ImportOptions
from pad_pipeline.view.index import cache_folder

logger = logging.getLogger(__name__)


def folder_of_data_set(url: str) -> str:
    """`url` itself, but for a COCO file the data set of its labels in the cache.

    There a box without a mask has all of its pixels as one; what cannot be shown, such as crowds,
    is counted in the log. Raises `UserError` where the file is not COCO's JSON.
    """
    if not url.endswith(".json"):
        return url
    if not storage.exists(url):
        raise UserError(
            f"expected a data set of PAD records or COCO's JSON at {url}, but nothing is there"
        )
    identity = f"{storage.absolute(url)}\n{storage.version(url)}"
    folder = cache_folder() / "labels" / hashlib.sha256(identity.encode()).hexdigest()[:24]
    if not folder.exists():
        with storage.user_errors(str(folder), "write imported labels to"):
            folder.parent.mkdir(parents=True, exist_ok=True)
        report = import_labels(url, str(folder), "coco", ImportOptions(fill_boxes=True))
        for reason, number in report.left_out.items():
            logger.warning("%s: left out %d %s", url, number, reason)
    return str(folder)
