"""Fetching a key file by URL for `key import`: https only, verified, limited in time and size.

Redirects are followed to https only. A URL with a user name or password in it is refused, so that no error
text can repeat one.
"""

from __future__ import annotations

import re
import ssl
import time
from pathlib import Path
from urllib.parse import urlsplit

import httpx

from secmailproxy.errors import UpstreamUnavailable, UsageError

MAX_OCTETS = 16 * 1024 * 1024
_SECONDS = 30.0
_MAX_REDIRECTS = 5


def check_url(url: str) -> None:
    """Raise UsageError unless `url` may be fetched."""
    parts = urlsplit(url)
    if parts.scheme == "http":
        raise UsageError(
            f"{url}: a key that comes over plain http could be anybody's. Use https, or save it to a file "
            "and compare its fingerprint with its owner's before you import it."
        )
    if parts.scheme != "https" or not parts.hostname:
        raise UsageError(f"{parts.scheme or 'this'} URLs are not supported: give https://..., a file, or -.")
    if parts.username or parts.password:
        raise UsageError("A URL with a user name or password in it is not supported.")


def fetch(url: str, ca_file: Path | None = None, proxy: str | None = None) -> bytes:
    """Return what https `url` answers. `ca_file` is trusted in place of the system's authorities.

    With `proxy`, as [discovery] has it, nothing is asked beside it.

    Raises UsageError for other URLs, UpstreamUnavailable when it cannot be had within 30 seconds and 16 MiB.
    """
    check_url(url)
    deadline = time.monotonic() + _SECONDS
    with httpx.Client(verify=_context(ca_file), timeout=_SECONDS / 3, proxy=proxy) as client:
        try:
            for _ in range(_MAX_REDIRECTS):
                octets, location = _get(client, url, deadline)
                if location is None:
                    return octets
                _check_redirect(url, location)
                url = location
        except httpx.HTTPError as error:
            raise UpstreamUnavailable(f"{url} cannot be fetched: {_why(error)}") from None
    raise UpstreamUnavailable(f"{url} cannot be fetched: too many redirects")


def _check_redirect(url: str, location: str) -> None:
    try:
        check_url(location)
    except UsageError:
        raise UpstreamUnavailable(f"{url} cannot be fetched: it leads away from https") from None


def _get(client: httpx.Client, url: str, deadline: float) -> tuple[bytes, str | None]:
    octets = bytearray()
    with client.stream("GET", url, headers={"Accept-Encoding": "identity"}) as response:
        if response.next_request is not None:
            return b"", str(response.next_request.url)
        if response.status_code != httpx.codes.OK:
            raise UpstreamUnavailable(f"{url} cannot be fetched: the server answered {response.status_code}")
        for piece in response.iter_bytes(65536):
            octets += piece
            if len(octets) > MAX_OCTETS:
                raise UpstreamUnavailable(
                    f"{url} cannot be fetched: it is larger than {MAX_OCTETS // 2**20} MiB"
                )
            if time.monotonic() > deadline:
                raise UpstreamUnavailable(
                    f"{url} cannot be fetched: it took longer than {_SECONDS:.0f} seconds"
                )
    return bytes(octets), None


def _context(ca_file: Path | None) -> ssl.SSLContext:
    try:
        return ssl.create_default_context(cafile=str(ca_file) if ca_file else None)
    except (OSError, ssl.SSLError):
        raise UsageError(f"--ca-file {ca_file}: not a readable file of PEM certificates.") from None


def _why(error: httpx.HTTPError) -> str:
    text = re.sub(r"^\[Errno -?\d+\] ", "", " ".join(str(error).split())) or type(error).__name__
    if "CERTIFICATE_VERIFY_FAILED" in text:
        return f"its TLS certificate is not trusted ({text}); name a private authority with --ca-file"
    return text
