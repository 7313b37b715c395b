"""Addresses of the viewer's pages: an image's id may be any text, so it is one encoded segment."""

from __future__ import annotations

from urllib.parse import quote, urlencode

from starlette.convertors import Convertor, register_url_convertor


class AnyText(Convertor[str]):
    """The rest of a path, newlines as well, which Starlette's own "path" leaves out."""

    regex = r"[\s\S]*"

    def convert(self, value: str) -> str:
        """The id, as the server has decoded it."""
        return value

    def to_string(self, value: str) -> str:
        """The id as a segment."""
        return quote(value, safe="")


register_url_convertor("id", AnyText())


def of_image(image_id: str, kind: str = "image", query: str = "") -> str:
    """The address of an image's page, thumbnail, …: `/image/a%2Fb.png?region=3`.

    `query` is what follows the question mark.
    """
    if image_id in ("", ".", ".."):  # browsers take these out of a path, even encoded
        own = urlencode({"id": image_id})
        return f"/{kind}/?{own}" + (f"&{query}" if query else "")
    return f"/{kind}/{quote(image_id, safe='')}" + (f"?{query}" if query else "")
