"""What goes wrong on S3, in its client or on the way there, in words."""

from __future__ import annotations

from collections.abc import Iterator

from pipeline.errors import TemporaryFailure, UserError
from pipeline.sources.store import Passing

ACCESS = (
    "AWS_PROFILE, or AWS_ACCESS_KEY_ID and AWS_SECRET_ACCESS_KEY, say who you are; FSSPEC_S3_ANON=true asks as nobody, "
    "for a bucket that is open to all"
)


def worded(error: Exception, shown: str, bucket: str) -> Exception:
    """An error of S3, of its client or of the network in words that say what next."""
    from botocore import exceptions as boto  # type: ignore[import-untyped]

    chain = list(_chain(error))
    said = " ".join(str(chain[-1]).split()) or type(chain[-1]).__name__
    lacking = (
        *(boto.NoCredentialsError, boto.PartialCredentialsError, boto.CredentialRetrievalError),
        *(boto.ProfileNotFound, boto.TokenRetrievalError),
    )
    if any(_code(cause) == "NoSuchBucket" for cause in chain):
        return UserError(
            f"data.path: {shown}: there is no bucket {bucket!r} there. Is the name right, and AWS_ENDPOINT_URL?"
        )
    if any(isinstance(cause, lacking) for cause in chain):
        return UserError(f"data.path: {shown}: no credentials ({said}). {ACCESS}.")
    if any(isinstance(cause, PermissionError) for cause in chain):
        return UserError(f"data.path: {shown}: S3 refuses ({said}). {ACCESS}.")
    if any(isinstance(cause, FileNotFoundError) for cause in chain):
        return TemporaryFailure(f"data.path: {shown}: an object has just gone ({said}). Run the same command again.")
    if any(_of_network(cause) for cause in chain):
        return Passing(said)
    return UserError(f"data.path: {shown}: S3 says: {said}.")


def _of_network(error: BaseException) -> bool:
    import aiohttp
    from botocore import exceptions as boto

    of_client = (aiohttp.ClientError, boto.HTTPClientError, boto.ConnectionError)
    kinds = (ConnectionError, TimeoutError, *of_client)
    return isinstance(error, kinds) or _code(error) in ("500", "502", "503", "504", "SlowDown")


def _chain(error: BaseException) -> Iterator[BaseException]:
    cause: BaseException | None = error
    while cause:
        yield cause
        cause = cause.__cause__


def _code(error: BaseException) -> str:
    """The code of S3's answer, if it is one."""
    response = getattr(error, "response", None)
    return str(response.get("Error", {}).get("Code", "")) if isinstance(response, dict) else ""
