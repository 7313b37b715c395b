"""Who may write to the review: a page of this viewer, on this machine or with its token."""

from __future__ import annotations

import hashlib
import hmac
from collections.abc import Awaitable, Callable
from urllib.parse import parse_qsl, urlencode, urlsplit

from fastapi import HTTPException, Request
from starlette.responses import RedirectResponse, Response

from pad_pipeline.view.safety import comes_from_elsewhere

MAX_BODY_BYTES = 64 << 10
_PARAMETER = "token"

Next = Callable[[Request], Awaitable[Response]]


class WriteGuard:
    """Checks requests that write; without a token every page of the viewer itself may."""

    def __init__(self, token: str | None = None) -> None:
        self.token = token
        """What a page must bring to write."""
        digest = hashlib.sha256((token or "").encode()).hexdigest()
        self._cookie = f"pad-view-{digest[:12]}"

    def allows(self, request: Request) -> bool:
        """Whether the request brings the token, as a cookie or in its header, if one is needed."""
        if self.token is None:
            return True
        scheme, _, bearer = request.headers.get("authorization", "").partition(" ")
        sent = bearer.strip() if scheme.lower() == "bearer" else request.cookies.get(self._cookie)
        return hmac.compare_digest((sent or "").encode(), self.token.encode())

    async def read(self, request: Request) -> bytes:
        """The body of a request that may write; raises `HTTPException` where it may not.

        It must be JSON, which a form of another web site cannot send.
        """
        origin, host = request.headers.get("origin"), request.headers.get("host")
        is_foreign = origin is not None and urlsplit(origin).netloc != host
        if is_foreign or comes_from_elsewhere(request):
            raise HTTPException(403, "another web site may not mark anything here")
        if request.headers.get("content-type", "").partition(";")[0] != "application/json":
            raise HTTPException(415, "expected JSON, with the content type application/json")
        if not self.allows(request):
            raise HTTPException(
                401,
                "marking needs the token of this viewer: open the address with ?token=… once, as "
                "`pad-pipeline view` printed, or send it as `Authorization: Bearer`",
            )
        body = bytearray()
        async for part in request.stream():
            body += part
            if len(body) > MAX_BODY_BYTES:
                raise HTTPException(413, f"a mark has at most {MAX_BODY_BYTES >> 10} KiB")
        return bytes(body)

    async def take_token(self, request: Request, call_next: Next) -> Response:
        """A middleware that keeps the token of an address as a cookie, and leads on without it."""
        sent = request.query_params.get(_PARAMETER)
        if self.token is None or sent is None or request.method != "GET":
            return await call_next(request)
        rest = [(k, v) for k, v in parse_qsl(request.url.query, True) if k != _PARAMETER]
        address = request.url.path + (f"?{urlencode(rest)}" if rest else "")
        response = RedirectResponse(address, status_code=303)
        if hmac.compare_digest(sent.encode(), self.token.encode()):
            response.set_cookie(self._cookie, self.token, httponly=True, samesite="strict")
        return response
