"""What a run is given: options `--train.beta 500`, a YAML file of the same names, or both; options come first."""

from __future__ import annotations

import re
from collections.abc import Mapping, Sequence
from dataclasses import fields
from pathlib import Path
from typing import Any

import yaml

from pipeline_lib.chain.plan import GIVEN
from pipeline_lib.core.config import EncodeConfig, EvaluateConfig, IngestConfig, JudgeConfig, TrainConfig
from pipeline_lib.core.errors import ConfigError, excerpt
from pipeline_lib.core.registry import unknown_name

SECTIONS: Mapping[str, type] = {
    "ingest": IngestConfig,
    "encode": EncodeConfig,
    "train": TrainConfig,
    "judge": JudgeConfig,
    "evaluate": EvaluateConfig,
}
"""Configs whose fields are options `--<section>.<field>`."""
MAX_BYTES = 1 << 20
"""Of a file of settings."""


class _Loader(yaml.SafeLoader):
    """YAML whose `no` is a word (a precision is called so), `2e-5` a number, and a date a text."""


_Loader.yaml_implicit_resolvers = {
    first: [(tag, pattern) for tag, pattern in known if not tag.endswith((":bool", ":timestamp"))]
    for first, known in yaml.SafeLoader.yaml_implicit_resolvers.items()
}
_Loader.add_implicit_resolver("tag:yaml.org,2002:bool", re.compile("^(?:true|false|True|False)$"), list("tfTF"))
_Loader.add_implicit_resolver(
    "tag:yaml.org,2002:float", re.compile(r"^[-+]?\d+(?:\.\d*)?[eE][-+]?\d+$"), list("-+0123456789")
)


def dotted_options(words: Sequence[str]) -> dict[str, dict[str, Any]]:
    """Values by section and name, of words `--<section>.<name> <value>` or `--<section>.<name>=<value>`.

    A value is YAML: `500`, `2e-5`, `true`, `null`, `[to_q, to_k]`. Sections are those of SECTIONS, and `given`, whose
    names are products of stages (`--given.labels <URI>`, `--given.scores.clip <URI>`).

    Raises:
        UnknownNameError: a section or name that there is not.
        ConfigError: a word that is no such option, or one without a value.
    """
    found: dict[str, dict[str, Any]] = {}
    waiting = list(words)
    while waiting:
        word = waiting.pop(0)
        if not word.startswith("--"):
            raise ConfigError(f"{excerpt(word)} is no option.", "Write --<option> <value>; see --help.")
        name, given, text = word.removeprefix("--").partition("=")
        section, dot, field = name.partition(".")
        if not dot:
            raise unknown_name("option", f"--{name}", [f"--{one}" for one in known_options()])
        if not given:
            if not waiting:
                raise ConfigError(f"--{name} has no value.", f"Write --{name} <value>.")
            text = waiting.pop(0)
        check_name(section, field)
        values = found.setdefault(section, {})
        if section == "given":
            product, _, scorer = field.partition(".")
            if scorer:
                values.setdefault(product, {})[scorer] = text
            else:
                values[product] = text
        else:
            values[field] = _yaml(text, f"--{name}")
    return found


def known_options() -> list[str]:
    """Every `<section>.<field>`."""
    configs = [f"{section}.{field.name}" for section, config in SECTIONS.items() for field in fields(config)]
    return [*configs, *(f"given.{name}" for name in GIVEN)]


def check_name(section: str, field: str) -> None:
    """Raise UnknownNameError for a section or a field that there is not."""
    if section != "given" and section not in SECTIONS:
        raise unknown_name("section of settings", section, [*SECTIONS, "given"])
    name = field.partition(".")[0] if section == "given" else field
    if f"{section}.{name}" not in known_options():
        near = [one for one in known_options() if one.startswith(f"{section}.")]
        raise unknown_name("setting", f"{section}.{field}", near)


def settings_file(path: Path | None) -> dict[str, Any]:
    """A YAML file's settings: options by their names, and the sections' as mappings; empty without a file.

    Raises:
        ConfigError: it cannot be read, or is no mapping.
    """
    if path is None:
        return {}
    try:
        if path.stat().st_size > MAX_BYTES:
            raise ConfigError(f"{path} has more than {MAX_BYTES:,} bytes.", "Give a file of settings.")
        text = path.read_text(encoding="utf-8")
    except (OSError, UnicodeDecodeError) as error:
        raise ConfigError(f"{path} cannot be read: {error}.", "Give a YAML file of settings.") from error
    found = _yaml(text, str(path))
    if found is None:
        return {}
    if not isinstance(found, dict) or not all(isinstance(name, str) for name in found):
        raise ConfigError(f"{path} is no mapping of names to values.", "Write lines such as preset: shapes.")
    for section in (*SECTIONS, "given"):
        for name in _mapping(found, section):
            check_name(section, str(name))
    return found


def joined(first: Mapping[str, Any], then: Mapping[str, Any]) -> dict[str, Any]:
    """Settings of a file with others in their place; sections are joined name by name."""
    both = {**first, **{name: value for name, value in then.items() if value is not None}}
    for section in (*SECTIONS, "given"):
        if values := {**_mapping(first, section), **_mapping(then, section)}:
            both[section] = values
    return both


def _mapping(values: Mapping[str, Any], section: str) -> Mapping[str, Any]:
    found = values.get(section) or {}
    if not isinstance(found, Mapping):
        raise ConfigError(f"{section} is {excerpt(found)}.", f"Write {section} as a mapping of names to values.")
    return found


def _yaml(text: str, what: str) -> Any:
    try:
        return _Loader(text).get_single_data()
    except (yaml.YAMLError, ValueError, RecursionError) as error:
        raise ConfigError(f"{what} is not YAML: {excerpt(str(error))}.", "Write a value such as 500.") from error
