"""Which certificate authorities this system trusts: one answer for all clients and the idle path.

It imports the standard library alone, so that the idle path stays cheap.
"""

from __future__ import annotations

import os
import ssl


def system_trust() -> ssl.SSLContext:
    """Return TLS settings that trust what this system trusts.

    `SSL_CERT_FILE`, or else `NIX_SSL_CERT_FILE`, names the bundle; without them it is OpenSSL's own
    choice of file and directory (`SSL_CERT_DIR`). The certifi package serves only where all of
    that holds nothing. Loading a bundle takes some 10 ms: share the result.

    Raises:
        OSError: the named bundle cannot be read (`ssl.SSLError` where it holds no certificate).
    """
    named = os.environ.get("SSL_CERT_FILE") or os.environ.get("NIX_SSL_CERT_FILE")
    if named:
        return ssl.create_default_context(
            cafile=named, capath=os.environ.get("SSL_CERT_DIR") or None
        )
    context = ssl.create_default_context()
    if not context.cert_store_stats()["x509_ca"] and not _has_files(
        ssl.get_default_verify_paths().capath
    ):
        import certifi

        context.load_verify_locations(cafile=certifi.where())
    return context


def _has_files(directory: str | None) -> bool:
    """Whether a directory of certificates, which OpenSSL reads only when asked, holds anything."""
    return directory is not None and bool(os.listdir(directory))
