"""Headers of every response and checks of every request: data sets and web sites may be hostile."""

from __future__ import annotations

from collections.abc import Awaitable, Callable, Collection

from starlette.requests import Request
from starlette.responses import PlainTextResponse, Response

HEADERS = {
    # No script, style or picture but the server's own; nothing is sent anywhere else.
    "Content-Security-Policy": (
        "default-src 'none'; script-src 'self'; style-src 'self'; img-src 'self' blob:; "
        "connect-src 'self'; form-action 'self'; base-uri 'none'; frame-ancestors 'none'"
    ),
    "X-Content-Type-Options": "nosniff",
    "X-Frame-Options": "DENY",
    "Referrer-Policy": "no-referrer",
    "Cross-Origin-Resource-Policy": "same-origin",
    "Cross-Origin-Opener-Policy": "same-origin",
}
LOOPBACK = ("localhost", "127.0.0.1", "::1")
_ANYWHERE = ("0.0.0.0", "::", "")

Next = Callable[[Request], Awaitable[Response]]


def guard(host: str) -> Callable[[Request, Next], Awaitable[Response]]:
    """A middleware that adds the headers, and refuses names that lead to a loopback server.

    A web site whose name resolves to 127.0.0.1 could otherwise read the viewer's pages in the
    browser of its visitors. Bound to an address of a network, the server accepts any name.
    """
    names: Collection[str] | None = None if host in _ANYWHERE else {host, *LOOPBACK}
    if host not in LOOPBACK:
        names = None

    async def check(request: Request, call_next: Next) -> Response:
        named = (request.headers.get("host") or "").strip()
        name = named.rpartition(":")[0] if named.rpartition(":")[2].isdigit() else named
        if names is not None and name.strip("[]").lower() not in names:
            response: Response = PlainTextResponse(
                f"this viewer answers to {' and '.join(sorted(names))} only\n", status_code=421
            )
        else:
            response = await call_next(request)
        for header, value in HEADERS.items():
            response.headers.setdefault(header, value)
        response.headers.setdefault("Cache-Control", "no-store")
        return response

    return check


def comes_from_elsewhere(request: Request) -> bool:
    """Whether the request was caused by another web site."""
    return request.headers.get("sec-fetch-site", "none") not in ("none", "same-origin")
