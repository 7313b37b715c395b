"""S3 through s3fs, with one rule for retries: transient failures are retried for a minute.

botocore and s3fs each have retries of their own, which multiply: a server that never answers would
hold a call for half an hour, while one that answers 503 for ten seconds ends it. Here both are off.
"""

from __future__ import annotations

import logging
import os
from asyncio import sleep
from collections.abc import Mapping
from datetime import UTC, datetime, timedelta
from typing import Any

import aiohttp
import botocore.exceptions
from botocore.config import Config
from botocore.parsers import ResponseParserError
from fsspec.asyn import _run_coros_in_chunks, sync_wrapper
from s3fs import S3FileSystem
from s3fs.errors import translate_boto_error
from tenacity import (
    AsyncRetrying,
    RetryCallState,
    before_sleep_log,
    retry_if_exception,
    stop_after_attempt,
    stop_any,
    stop_before_delay,
    wait_exponential,
    wait_random_exponential,
)
from urllib3.exceptions import IncompleteRead

from pad_pipeline.storage.errors import RetriesExhausted, is_bucket_missing, s3_code

logger = logging.getLogger(__name__)

RETRY_TIMEOUT_S = 60.0
"""How long a request is repeated while its failure is transient."""
FIRST_DELAY_S = 0.25
MAX_DELAY_S = 10.0
CONNECT_TIMEOUT_S = 10.0
READ_TIMEOUT_S = 20.0

PART_BYTES = 16 << 20
"""Larger files are read and written in parts of this size, a few at a time."""
MAX_CONCURRENT_PARTS = 4

_TRANSIENT_STATUS = frozenset({429, 500, 502, 503, 504})
_TRANSIENT_CODES = frozenset(
    {
        *("SlowDown", "ServiceUnavailable", "InternalError", "RequestTimeout", "OperationAborted"),
        *("Throttling", "ThrottlingException", "RequestLimitExceeded", "BandwidthLimitExceeded"),
        *("XAmzContentSHA256Mismatch", "BadDigest", "IncompleteBody"),
    }
)
_CONDITION_FAILED = frozenset({"PreconditionFailed", "412", "ConditionalRequestConflict", "409"})
_TRANSIENT_ERRORS = (
    botocore.exceptions.ConnectionError,
    botocore.exceptions.HTTPClientError,
    botocore.exceptions.FlexibleChecksumError,
    ResponseParserError,
    IncompleteRead,
    aiohttp.ClientError,
    ConnectionError,
    TimeoutError,
)


class S3(S3FileSystem):
    """s3fs with retries by time, and whole small files in one request.

    Credentials and endpoint are those of the standard AWS_* variables, files and profiles;
    AWS_MAX_ATTEMPTS bounds the attempts beside the time.
    """

    async def _call_s3(self, method: str, *akwarglist: Any, **kwargs: Any) -> Any:
        attempts = int(os.environ.get("AWS_MAX_ATTEMPTS") or 0)
        half = {"multiplier": FIRST_DELAY_S / 2, "max": MAX_DELAY_S / 2}
        retrying = AsyncRetrying(
            retry=retry_if_exception(is_transient),
            # Half of each pause is random, so that many workers do not come back at once.
            wait=wait_exponential(**half) + wait_random_exponential(**half),
            stop=stop_any(
                stop_before_delay(RETRY_TIMEOUT_S),
                *([stop_after_attempt(attempts)] if attempts else []),
            ),
            sleep=sleep,
            before_sleep=before_sleep_log(logger, logging.DEBUG),
            retry_error_callback=self._give_up,
        )
        try:
            return await retrying(self._once, method, akwarglist, kwargs)
        except (*_TRANSIENT_ERRORS, botocore.exceptions.ClientError) as error:
            # The answer to HEAD has no body that could say why it is refused.
            is_without_detail = method.startswith("head_") and s3_code(error) in ("403", "400")
            cause = await self._fetch_error_detail(error, kwargs) if is_without_detail else error
            raise translate_boto_error(cause) from cause

    def _give_up(self, state: RetryCallState) -> None:
        assert state.outcome is not None
        error = state.outcome.exception()
        assert isinstance(error, Exception)
        attempts = state.attempt_number
        raise RetriesExhausted(
            f"{self._describe(error)}; gave up after {attempts} attempt{'s' * (attempts > 1)} in "
            f"{state.seconds_since_start:.0f} s"
        ) from error

    async def _once(
        self, method: str, akwarglist: tuple[Any, ...], kwargs: Mapping[str, Any]
    ) -> Any:
        """One request and all of its answer, the body included."""
        await self.set_session()
        call = getattr(await self.get_s3(kwargs.get("Bucket")), method)
        answer = await call(**self._get_s3_method_kwargs(call, *akwarglist, **kwargs))
        if method == "get_object":
            async with answer["Body"] as body:
                answer["Body"] = _Body(await body.read())
        return answer

    async def _fetch_error_detail(self, error: Exception, kwargs: Mapping[str, Any]) -> Exception:
        """Why a HEAD request is refused, as the answer to a listing says."""
        try:
            await self._once("list_objects_v2", (), {"Bucket": kwargs["Bucket"], "MaxKeys": 1})
        except botocore.exceptions.ClientError as other:
            return other
        except _TRANSIENT_ERRORS as other:
            logger.debug("no detail of %s: %s", error, other)
        return error

    def split_path(self, path: str) -> tuple[str, str, str | None]:
        """Bucket and key; a key may hold anything, "?versionId=" too."""
        if self.version_aware:
            return super().split_path(path)
        slashes = path[len(path.rstrip("/")) :]
        bucket, key = self._find_bucket_key(str(self._strip_protocol(path)).lstrip("/"))
        return bucket, key + slashes if key else "", None

    def _describe(self, error: Exception) -> str:
        """A transient failure as a sentence for the user."""
        endpoint = self._s3.meta.endpoint_url if self._s3 is not None else "S3"
        answer = getattr(error, "response", None) or {}
        status = answer.get("ResponseMetadata", {}).get("HTTPStatusCode")
        if status is not None:
            code = s3_code(error)
            return f"{endpoint} answers {status}{'' if code == str(status) else f' {code}'}"
        if isinstance(error, botocore.exceptions.ReadTimeoutError):
            return f"{endpoint} does not answer within {READ_TIMEOUT_S:.0f} s"
        if isinstance(error, botocore.exceptions.ConnectionError):
            return f"no connection to {endpoint} (is AWS_ENDPOINT_URL right?)"
        return f"the connection to {endpoint} breaks off ({type(error).__name__})"

    async def _cat_file(
        self, path: str, version_id: str | None = None, start=None, end=None, **kwargs: Any
    ) -> bytes:
        try:
            if start is None and end is None and not self.version_aware:
                return await self._read_whole(path)
            return await super()._cat_file(
                path, version_id=version_id, start=start, end=end, **kwargs
            )
        except OSError as error:
            if s3_code(error) in ("InvalidRange", "416") and not start:
                return b""  # an empty file has no first byte
            raise

    async def _read_whole(self, path: str) -> bytes:
        """The whole file; the size of a small one comes with its content."""
        bucket, key, _ = self.split_path(path)
        place = {"Bucket": bucket, "Key": key}
        answer = await self._call_s3(
            "get_object", **place, Range=f"bytes=0-{PART_BYTES - 1}", **self.req_kw
        )
        parts = [await answer["Body"].read()]
        if "ContentRange" in answer:
            size = int(answer["ContentRange"].rpartition("/")[2])

            async def read(start: int) -> bytes:
                end = min(start + PART_BYTES, size) - 1
                part = await self._call_s3(
                    "get_object",
                    **place,
                    Range=f"bytes={start}-{end}",
                    IfMatch=answer["ETag"],
                    **self.req_kw,
                )
                return await part["Body"].read()

            parts += await _run_coros_in_chunks(
                [read(start) for start in range(PART_BYTES, size, PART_BYTES)],
                batch_size=MAX_CONCURRENT_PARTS,
                nofiles=True,
            )
        return b"".join(parts)

    async def _pipe_file(self, path: str, data: bytes, **kwargs: Any) -> Any:
        try:
            return await super()._pipe_file(path, data, **{"chunksize": PART_BYTES, **kwargs})
        except FileNotFoundError as error:
            if s3_code(error) != "NoSuchUpload":
                raise
            # The answer to a completed upload was lost, so asking again found no upload.
            return await super()._pipe_file(path, data, **{"chunksize": PART_BYTES, **kwargs})

    async def _read_tagged(
        self, path: str, known: bytes, etag: str | None
    ) -> tuple[bytes, str | None]:
        """The file and its ETag, (b"", None) where it is missing; not sent again if it is `etag`'s.

        `known` is what the file held when it had that ETag.
        """
        bucket, key, _ = self.split_path(path)
        condition = {"IfNoneMatch": etag} if etag is not None else {}
        try:
            answer = await self._call_s3(
                "get_object", Bucket=bucket, Key=key, **condition, **self.req_kw
            )
        except FileNotFoundError as error:
            if is_bucket_missing(error):
                raise
            return b"", None
        except OSError as error:
            if s3_code(error) in ("304", "NotModified"):
                return known, etag
            raise
        return await answer["Body"].read(), answer["ETag"]

    read_tagged = sync_wrapper(_read_tagged)

    async def _put_if(self, path: str, data: bytes, etag: str | None) -> str | None:
        """Writes a file that has `etag`, or with None is missing; its new ETag, None if not so."""
        bucket, key, _ = self.split_path(path)
        condition = {"IfNoneMatch": "*"} if etag is None else {"IfMatch": etag}
        try:
            answer = await self._call_s3(
                "put_object", Bucket=bucket, Key=key, Body=data, **condition
            )
        except OSError as error:
            missing = isinstance(error, FileNotFoundError) and not is_bucket_missing(error)
            if s3_code(error) in _CONDITION_FAILED or (missing and etag is not None):
                return None
            raise
        return answer["ETag"]

    put_if = sync_wrapper(_put_if)

    async def _abort_stale_uploads(self, path: str, older_than: timedelta) -> int:
        """Abort uploads in parts that killed processes left below `path`: they cost space."""
        bucket, key, _ = self.split_path(path)
        prefix = f"{key.rstrip('/')}/" if key else ""
        found = await self._call_s3("list_multipart_uploads", Bucket=bucket, Prefix=prefix)
        last = datetime.now(UTC) - older_than
        stale = [
            upload
            for upload in found.get("Uploads", [])
            if upload["Key"].startswith(prefix) and upload["Initiated"] < last
        ]
        for upload in stale:
            await self._call_s3(
                "abort_multipart_upload",
                Bucket=bucket,
                Key=upload["Key"],
                UploadId=upload["UploadId"],
            )
        return len(stale)

    abort_stale_uploads = sync_wrapper(_abort_stale_uploads)


class _Body:
    """A body that has been read already, as s3fs reads one that has not."""

    def __init__(self, data: bytes) -> None:
        self._data = data

    async def read(self, size: int = -1) -> bytes:
        size = len(self._data) if size < 0 else size
        data, self._data = self._data[:size], self._data[size:]
        return data

    def close(self) -> None:
        pass


def is_transient(error: BaseException) -> bool:
    """Whether the same request might work later."""
    if isinstance(error, botocore.exceptions.ClientError):
        status = error.response.get("ResponseMetadata", {}).get("HTTPStatusCode")
        return status in _TRANSIENT_STATUS or s3_code(error) in _TRANSIENT_CODES
    return isinstance(error, _TRANSIENT_ERRORS) and not isinstance(
        error, botocore.exceptions.SSLError
    )


def open_s3() -> S3:
    """The file system; the same object for the same settings."""
    config: dict[str, Any] = {
        "retries": {"total_max_attempts": 1},
        "connect_timeout": CONNECT_TIMEOUT_S,
        "read_timeout": READ_TIMEOUT_S,
        "max_pool_connections": 64,
    }
    checks = "response_checksum_validation"
    if checks in Config.OPTION_DEFAULTS and f"AWS_{checks.upper()}" not in os.environ:
        # Some servers send the whole file's checksum along with a part of it.
        config[checks] = "when_required"
    return S3(
        # Other processes write to the same place.
        use_listings_cache=False,
        default_block_size=PART_BYTES // 2,
        max_concurrency=MAX_CONCURRENT_PARTS,
        config_kwargs=config,
    )
