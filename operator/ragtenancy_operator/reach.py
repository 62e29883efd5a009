"""What it means that a server could not be talked to."""

import ssl
from typing import Final

import aiohttp

from ragtenancy_operator.errors import Refused, Unreachable, why

_NO_TLS: Final = frozenset(
    {"WRONG_VERSION_NUMBER", "RECORD_LAYER_FAILURE", "PACKET_LENGTH_TOO_LONG"}
)
"""What OpenSSL calls an answer that is no TLS, by version."""


def no_connection(server: str, error: BaseException) -> Unreachable | Refused:
    """The error for a reconcile; ``server`` is its name and address, without a password."""
    seen: BaseException | None = error
    while seen is not None:
        # aiohttp's own error is one of these, without its message: that is in its cause
        if isinstance(seen, ssl.SSLCertVerificationError) and hasattr(seen, "verify_message"):
            return Refused(
                "CertificateNotTrusted",
                f"the certificate of {server} is not trusted ({seen.verify_message}). Let "
                "tls.caSecretRef name the CA that signed it for this host",
            )
        if isinstance(seen, ssl.SSLError) and getattr(seen, "reason", None) in _NO_TLS:
            return Refused("NotTLS", f"{server} speaks no TLS: is it the right port and scheme?")
        seen = seen.__cause__ or seen.__context__
    if isinstance(error, aiohttp.ClientResponseError):
        return Refused("NotHTTP", f"{server} speaks no HTTP: is it the right port and scheme?")
    return Unreachable(f"{server} does not answer ({why(error)})")
