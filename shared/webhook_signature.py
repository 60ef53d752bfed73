"""Signing what is sent to others, as Standard Webhooks has it (standardwebhooks.com, spec 1.0, "Signature scheme").

Who receives it compares `webhook-signature` with what the shared secret makes of id, timestamp and body.
"""

from __future__ import annotations

import base64
import binascii
import hashlib
import hmac
from collections.abc import Sequence
from typing import Final

_PREFIX: Final = "whsec_"
_BYTES: Final = range(24, 65)


def secrets_in(text: str) -> tuple[bytes, ...]:
    """The secrets, which blanks separate. ValueError where one is none, without a word of what was there."""
    return tuple(_secret(part) for part in text.split())


def signature(secrets: Sequence[bytes], webhook_id: str, seconds: int, body: bytes) -> str:
    """What `webhook-signature` says: one signature per secret, so that a receiver that knows one of them is content.

    `seconds`: since 1970, as `webhook-timestamp` says.
    """
    signed = b"%s.%d.%s" % (webhook_id.encode(), seconds, body)
    return " ".join(
        "v1," + base64.b64encode(hmac.new(secret, signed, hashlib.sha256).digest()).decode() for secret in secrets
    )


def _secret(text: str) -> bytes:
    try:
        secret = base64.b64decode(text.removeprefix(_PREFIX), validate=True)
    except binascii.Error:
        secret = b""
    if not text.startswith(_PREFIX) or len(secret) not in _BYTES:
        raise ValueError(
            "must be whsec_ and 24 to 64 bytes in base64, several with blanks: `echo whsec_$(openssl rand -base64 32)`"
        )
    return secret
