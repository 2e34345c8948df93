"""For every field of every config another value than it has, within its bounds."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

OWN = {"source": "shapes://heldout", "prompts": "shapes-validation", "method": "ipo"}


def another(name: str, of: Mapping[str, Any], now: Any) -> Any:
    """A value of a field of that name and JSON schema, as JSON has it."""
    if name in OWN:
        return OWN[name]
    of = next((one for one in of.get("anyOf", []) if one["type"] != "null"), of)
    if "enum" in of:
        return next(one for one in of["enum"] if one != now)
    if of["type"] == "boolean":
        return not now
    if of["type"] == "array":
        return [10, 20] if "prefixItems" in of else [another("", of["items"], None)]
    if of["type"] == "integer":
        return next(one for one in (9, 16) if one != now)
    return next(one for one in (0.25, 0.375) if one != now) if of["type"] == "number" else "words"
