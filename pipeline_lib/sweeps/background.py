"""What was run and how it was judged, as the page lists it."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

from pipeline_lib.reports import label
from pipeline_lib.sweeps.parameters import differing, written

LEAKS = 5
"""Left out prompts that are shown."""


def background_content(report: Mapping[str, Any]) -> dict[str, Any]:
    """Tables `apart` and `models`, lists `shared`, `judging` and `scorers` for the template `background.html.j2`."""
    settings = report["settings"]
    names, each, shared = differing(settings)
    rows = [
        [setting["name"], *(parameters.get(name, "not used") for name in names)]
        for setting, parameters in zip(settings, each, strict=True)
    ]
    return {
        "apart": {"columns": ["Setting", *map(_words, names)], "rows": rows if names else []},
        "shared": [(_words(name), value) for name, value in shared.items()],
        "models": {
            "count": sum(len(setting["models"]) for setting in settings),
            "rows": [
                [setting["name"], "; ".join(f"{seed}: {uri}" for seed, uri in setting["models"].items())]
                for setting in settings
            ],
        },
        "judging": _judging(report),
        "scorers": [(label(name), _about(about)) for name, about in report["scorers"].items()],
    }


def _judging(report: Mapping[str, Any]) -> list[tuple[str, str]]:
    prompts = report["prompts"]
    leaked = prompts["leaked"]
    left_out = "none of the prompts occurs in the training pairs"
    if leaked:
        shown = "; ".join(leaked[:LEAKS]) + (" …" if len(leaked) > LEAKS else "")
        left_out = f"left out because they also occur in the training pairs, {len(leaked)}: {shown}"
    listed = [
        ("Prompts", f"{prompts['name']}, {prompts['used']} used, digest {prompts['digest']}"),
        ("Leakage", left_out),
    ]
    return listed + [
        (_words(name), written(value)) for name, value in report["judging"].items() if name not in ("prompts", "seeds")
    ]


def _about(about: Any) -> str:
    if isinstance(about, Mapping):
        return ", ".join(f"{_words(key).lower()} {written(value)}" for key, value in about.items())
    return written(about)


def _words(name: str) -> str:
    spaced = name.replace("_", " ")
    return spaced[:1].upper() + spaced[1:]
