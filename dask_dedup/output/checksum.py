"""A seal on what is written as JSON: its own SHA-256, so that a byte that has changed since shows."""

from __future__ import annotations

import hashlib
import json
from typing import Any

SEAL = "seal"


def sealed(values: dict[str, Any]) -> dict[str, Any]:
    """Add the seal, or renew it.

    Parameters
    ----------
    values : dict
        Plain values, as JSON holds them.
    """
    return {**values, SEAL: _digest(values)}


def is_whole(values: dict[str, Any]) -> bool:
    """Tell whether values, read again, are those that were sealed; without a seal they are not."""
    return values.get(SEAL) == _digest(values)


def _digest(values: dict[str, Any]) -> str:
    # Keys that are numbers come back as text, and would then be in another order.
    plain = json.loads(json.dumps({key: values[key] for key in values if key != SEAL}))
    return hashlib.sha256(json.dumps(plain, sort_keys=True).encode()).hexdigest()
