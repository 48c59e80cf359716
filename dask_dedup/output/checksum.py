"""A seal on what is written as JSON: its own SHA-256, so that a byte that has changed since shows."""

from __future__ import annotations

import hashlib
import json
from typing import Any

CHECKSUM = "checksum"


def with_checksum(values: dict[str, Any]) -> dict[str, Any]:
    """Add the seal, or renew it.

    Parameters
    ----------
    values : dict
        Plain values, as JSON holds them.
    """
    return {**values, CHECKSUM: _digest(values)}


def checksum_ok(values: dict[str, Any]) -> bool:
    """Tell whether values, read again, are those that were sealed; without a seal they are not."""
    return values.get(CHECKSUM) == _digest(values)


def _digest(values: dict[str, Any]) -> str:
    # Keys that are numbers come back as text, and would then be in another order.
    plain = json.loads(json.dumps({key: values[key] for key in values if key != CHECKSUM}))
    return hashlib.sha256(json.dumps(plain, sort_keys=True).encode()).hexdigest()
