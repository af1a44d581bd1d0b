"""JSON documents that imarium writes for itself, with a checksum in them: a torn or changed one is not believed.

The checksum finds damage, not forgery: whoever can write the file can make another.
"""

import hashlib
import json
from collections.abc import Mapping
from typing import Any, NoReturn

__all__ = ["seal", "unseal"]

_CHECKSUM = "sha256"


def seal(body: Mapping[str, object], *, indent: int | None = None) -> bytes:
    """The document with a checksum as one more member. It has text, whole numbers, truth values and lists of them."""
    return json.dumps({**body, _CHECKSUM: _checksum(body)}, indent=indent).encode()


def unseal(data: bytes) -> dict[str, Any] | None:
    """The document without its checksum, or None where it is not what was written.

    No number in it has a fraction, nor is one infinite. Whether its members are there and of the right type is for the
    caller to see.
    """
    try:
        body = json.loads(data, parse_float=_refuse, parse_constant=_refuse)
        whole = isinstance(body, dict) and body.pop(_CHECKSUM, None) == _checksum(body)
    except (ValueError, RecursionError):
        return None
    return body if whole else None


def _checksum(body: Mapping[str, object]) -> str:
    return hashlib.sha256(json.dumps(body, sort_keys=True).encode()).hexdigest()


def _refuse(text: str) -> NoReturn:
    raise ValueError(f"{text} is not a whole number")
