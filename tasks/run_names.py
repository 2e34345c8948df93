"""Names of flow runs: what runs, `train-balanced sdxl 3f2a91`."""

from __future__ import annotations

import inspect
import re

from prefect.context import FlowRunContext

from pipeline_lib.core.digest import digest

_GREEK = (
    "alpha|beta|gamma|delta|epsilon|zeta|eta|theta|iota|kappa|lambda|mu|nu|xi|omicron|pi|rho|sigma|tau|upsilon|phi|chi|"
    "psi|omega"
)
_PRAISE = (
    "Awesome|Ergonomic|Fantastic|Generic|Gorgeous|Handcrafted|Handmade|Incredible|Intelligent|Licensed|Practical|"
    "Refined|Rustic|Sleek|Small|Tasty|Unbranded"
)
AUTOMATIC = re.compile(rf"[a-z]+-[a-z]+|(?:{_PRAISE})-[^\W\d_]{{2,6}}|(?:{_GREEK})\d{{0,3}}-(?:[a-z]*-){{0,2}}[a-z]+")
"""Names that Prefect makes up: its server's `golden-otter`, and what its two forms for a run have filled in already,
`Licensed-Magpie` (an animal of up to six letters) and `tau185-iraatan-terminus` (/deployments/... without /v2)."""
KEY_LENGTH = 6


def flow_run_name() -> str:
    """`<flow> <preset> <key>` for the flow run that starts now; one that was given a name keeps it.

    The key is a digest of the flow's parameters, defaults included, but for the store: the same question has the same
    name, whoever asks it and when.
    """
    context = FlowRunContext.get()
    if context is None or context.flow is None or context.flow_run is None:
        raise RuntimeError("names are made by Prefect when a flow run starts")
    name = context.flow_run.name
    if not AUTOMATIC.fullmatch(name):
        return name
    defaults = {p.name: p.default for p in inspect.signature(context.flow.fn).parameters.values()}
    asked = defaults | (context.parameters or {})
    asked.pop("store", None)
    key = digest([context.flow.name, asked], KEY_LENGTH)
    return " ".join(filter(None, [context.flow.name, asked.get("preset"), key]))
