"""The API key of the service, which requests bring in one of two headers."""

from __future__ import annotations

import hmac
from collections.abc import Awaitable, Callable
from typing import Annotated

from fastapi import Depends
from fastapi.security import APIKeyHeader, HTTPAuthorizationCredentials, HTTPBearer

from pad_pipeline.serve.api_error import ApiError

_BEARER = HTTPBearer(auto_error=False)
_HEADER = APIKeyHeader(name="X-API-Key", auto_error=False)


def require_key(key: str) -> Callable[..., Awaitable[None]]:
    """A dependency that raises `ApiError` (401, 403) for requests without the key."""

    async def check(
        bearer: Annotated[HTTPAuthorizationCredentials | None, Depends(_BEARER)],
        header: Annotated[str | None, Depends(_HEADER)],
    ) -> None:
        sent = header or (bearer.credentials if bearer else None)
        if not sent:
            raise ApiError(
                401,
                "no_api_key",
                "expected the service's API key as `Authorization: Bearer KEY` or `X-API-Key: KEY`",
                {"WWW-Authenticate": "Bearer"},
            )
        if not hmac.compare_digest(sent.encode(), key.encode()):
            raise ApiError(403, "wrong_api_key", "the API key is not the service's")

    return check
