"""A small JSON object that carries its own SHA-256, so that any change to it is seen when it is read again."""

import hashlib
import json
from typing import Any

SEAL = "sha256"


def sealed(values: dict[str, Any]) -> bytes:
    """The object as text, with the sum of all that it says as its last entry."""
    digest = hashlib.sha256(json.dumps(values).encode()).hexdigest()
    return (json.dumps(values | {SEAL: digest}, indent=2) + "\n").encode()


def unsealed(content: bytes) -> dict[str, Any]:
    """The object in `content`. Raises ValueError unless that is byte for byte as `sealed` writes it."""
    values = json.loads(content)
    if not isinstance(values, dict) or values.pop(SEAL, None) is None or sealed(values) != content:
        raise ValueError("it is not as it was written")
    return values
