"""A claim file's YAML as a `Claim`; everything that can be known before a run is checked."""

from __future__ import annotations

import math
from collections.abc import Mapping, Sequence
from typing import Any, NoReturn

import yaml

from pipeline_lib.core.config import require
from pipeline_lib.core.errors import ConfigError
from pipeline_lib.core.registry import unknown_name
from pipeline_lib.presets import preset
from pipeline_lib.sweeps.claim import MIN_SEEDS, Claim, Contrast, Finding
from pipeline_lib.sweeps.measures import measure_of
from pipeline_lib.sweeps.plan import settings_of

TOP = ("title", "sources", "says", "miniature", "presets", "sweep", "findings", "figures", "remarks")
SWEEP = ("seeds", "image_seeds", "common", "settings", "grid", "reference", "measures")
FINDING = ("says", "contrasts")
CONTRAST = ("measure", "of", "above", "below")
SEEDS = [0, 1, 2]


def read(name: str, text: str) -> Claim:
    """The claim in a file's text; `name` is the file's, without its ending.

    Raises:
        UnknownNameError: an unknown key, setting, parameter or measure, with those that are near.
        ConfigError: anything else that cannot be used; names the place and the remedy.
    """
    where = f"Claim {name}"
    try:
        node = yaml.compose(text, yaml.SafeLoader)
        raw = yaml.safe_load(text)
    except yaml.YAMLError as error:
        raise ConfigError(f"{where} is not YAML: {error}.", "Mend the file.") from error
    if node is not None:
        _refuse_repeats(where, node)
    top = _mapping(where, raw, TOP, needed=("title", "sources", "says", "miniature", "sweep", "findings"))
    sweep = _mapping(f"{where}, sweep", top["sweep"], SWEEP, needed=())
    settings = settings_of(
        _plain(f"{where}, common", sweep.get("common") or {}),
        _plain(f"{where}, grid", sweep.get("grid") or {}),
        _plain(f"{where}, settings", sweep.get("settings") or {}),
    )
    known = [setting.name for setting in settings]
    reference = sweep.get("reference")
    if reference is not None and reference not in known:
        raise unknown_name(f"setting in claim {name}, reference,", str(reference), known)
    raw_findings = _plain(f"{where}, findings", top["findings"])
    require(bool(raw_findings), f"{where} has no findings.", "Give one or more, with their rules.")
    findings = tuple(_finding(where, str(key), item, known) for key, item in raw_findings.items())
    seeds = _whole(f"{where}, seeds", sweep.get("seeds", SEEDS))
    require(
        len(seeds) >= MIN_SEEDS,
        f"{where} has the seeds {list(seeds)}.",
        f"Give {MIN_SEEDS} or more: fewer are no evidence.",
    )
    images = sweep.get("image_seeds")
    figures = _measures(f"{where}, figures", top.get("figures", []))
    if "figures" not in top:
        figures = tuple(dict.fromkeys(contrast.measure for one in findings for contrast in one.contrasts))
    return Claim(
        name=name,
        title=_text(f"{where}, title", top["title"]),
        sources=tuple(_text(f"{where}, sources", one) for one in _list(f"{where}, sources", top["sources"])),
        says=_text(f"{where}, says", top["says"]),
        miniature=_text(f"{where}, miniature", top["miniature"]),
        remarks=_text(f"{where}, remarks", top["remarks"]) if "remarks" in top else "",
        settings=tuple(settings),
        seeds=seeds,
        image_seeds=None if images is None else _whole(f"{where}, image_seeds", images),
        reference=reference,
        presets=_presets(f"{where}, presets", top["presets"]) if "presets" in top else (),
        extra=_measures(f"{where}, measures", sweep.get("measures", [])),
        findings=findings,
        figures=figures,
    )


def _finding(where: str, name: str, raw: Any, settings: list[str]) -> Finding:
    here = f"{where}, finding {name}"
    given = _mapping(here, raw, FINDING, needed=FINDING)
    items = _list(f"{here}, contrasts", given["contrasts"])
    contrasts = tuple(_contrast(f"{here}, contrast {i}", item, settings) for i, item in enumerate(items, start=1))
    return Finding(name, _text(f"{here}, says", given["says"]), contrasts)


def _contrast(where: str, raw: Any, settings: list[str]) -> Contrast:
    given = _mapping(where, raw, CONTRAST, needed=("measure", "of", "above"))
    (measure,) = _measures(f"{where}, measure", [given["measure"]])
    weights = _plain(f"{where}, of", given["of"])
    for setting in weights:
        if setting not in settings:
            raise unknown_name(f"setting in {where[0].lower()}{where[1:]},", setting, settings)
    of = {setting: _number(f"{where}, weight of {setting}", weight) for setting, weight in weights.items()}
    require(any(of.values()), f"{where}: all weights are 0.", "Give settings a weight, such as {a: 1, b: -1}.")
    above = _number(f"{where}, above", given["above"])
    below = _number(f"{where}, below", given.get("below", above))
    require(
        below >= above,
        f"{where}: below is {below:g}, which is less than above, {above:g}.",
        "Give at least as much: an effect that is surely not above the one cannot be undecided.",
    )
    return Contrast(measure, of, above, below)


def _presets(where: str, raw: Any) -> tuple[str, ...]:
    found = tuple(dict.fromkeys(_text(where, one) for one in _list(where, raw)))
    for one in found:
        preset(one)
    return found


def _measures(where: str, raw: Any) -> tuple[str, ...]:
    found = tuple(_text(where, one) for one in (_list(where, raw) if raw else []))
    for one in found:
        measure_of(one)
    return tuple(dict.fromkeys(found))


def _mapping(where: str, raw: Any, keys: Sequence[str], needed: Sequence[str]) -> Mapping[str, Any]:
    given = _plain(where, raw)
    for key in given:
        if key not in keys:
            raise unknown_name(f"key of {where[0].lower()}{where[1:]},", key, list(keys))
    missing = [key for key in needed if key not in given]
    require(not missing, f"{where} lacks {', '.join(missing)}.", "Write it: claims are fixed before they are tested.")
    return given


def _plain(where: str, raw: Any) -> Mapping[str, Any]:
    if not isinstance(raw, Mapping) or not all(isinstance(key, str) for key in raw):
        _refuse(where, raw, "a mapping with names as keys")
    return raw


def _list(where: str, raw: Any) -> Sequence[Any]:
    if not isinstance(raw, list) or not raw:
        _refuse(where, raw, "a list of one or more")
    return raw


def _text(where: str, raw: Any) -> str:
    if not isinstance(raw, str) or not raw.strip():
        _refuse(where, raw, "text")
    return " ".join(raw.split())


def _number(where: str, raw: Any) -> float:
    if isinstance(raw, bool) or not isinstance(raw, int | float) or not math.isfinite(raw):
        _refuse(where, raw, "a finite number")
    return float(raw)


def _whole(where: str, raw: Any) -> tuple[int, ...]:
    numbers = _list(where, raw)
    if not all(isinstance(one, int) and not isinstance(one, bool) and one >= 0 for one in numbers):
        _refuse(where, raw, "a list of whole numbers")
    require(len(set(numbers)) == len(numbers), f"{where} has {list(numbers)}.", "Give each number once.")
    return tuple(numbers)


def _refuse(where: str, raw: Any, wanted: str) -> NoReturn:
    raise ConfigError(f"{where} is {raw!r}.", f"Write {wanted}.")


def _refuse_repeats(where: str, node: yaml.Node) -> None:
    """YAML's reader takes the last of two equal keys and says nothing: a finding would be lost."""
    children: list[yaml.Node] = list(node.value) if isinstance(node, yaml.SequenceNode) else []
    if isinstance(node, yaml.MappingNode):
        keys = [key.value for key, _ in node.value if isinstance(key, yaml.ScalarNode)]
        twice = sorted({key for key in keys if keys.count(key) > 1})
        require(not twice, f"{where} has {', '.join(twice)} twice in one place.", "Give each a name of its own.")
        children = [value for _, value in node.value]
    for child in children:
        _refuse_repeats(where, child)
