"""The forms of deployments that give a parameter.

Prefect's form for schedules sends an empty value for every parameter that may be empty, also where the deployment
gives one: a schedule of `label/dedpo25` would build the preset's labels. A parameter that the deployment gives may
therefore not be empty in its form, and has the deployment's value as its default.

The schemas that Prefect derives from flows allow any parameter beside a flow's own: a run with one would fail when it
starts, and until then the server would keep whatever is in it. Here they allow none.
"""

from collections.abc import Mapping
from copy import deepcopy
from typing import Any


def with_fixed(schema: Mapping[str, Any], parameters: Mapping[str, Any]) -> dict[str, Any]:
    """A copy of a flow's parameter schema without others than its own, in which these have these defaults and cannot
    be null."""
    fixed: dict[str, Any] = deepcopy(dict(schema)) | {"additionalProperties": False}
    for name, value in parameters.items():
        if value is None or name not in fixed.get("properties", {}):
            continue
        about = fixed["properties"][name] | {"default": value}
        if choices := [one for one in about.pop("anyOf", []) if one != {"type": "null"}]:
            about |= choices[0] if len(choices) == 1 else {"anyOf": choices}
        fixed["properties"][name] = about
    return fixed
