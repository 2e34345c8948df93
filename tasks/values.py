"""Types of flows' parameters that hold values within values: recipes, settings, and the grids of sweeps.

Their JSON schema bounds every value inside, at most `DEPTH` levels down; what the values mean is checked by the flow.
"""

from __future__ import annotations

import math
from collections.abc import Callable, Iterable, Mapping
from dataclasses import dataclass
from typing import Annotated, Any, TypeAlias

from pydantic import AfterValidator, Field, GetJsonSchemaHandler, TypeAdapter
from pydantic_core import CoreSchema
from typing_extensions import TypeAliasType

from pipeline_lib.core.config import EncodeConfig, EvaluateConfig, IngestConfig, JudgeConfig, TrainConfig
from pipeline_lib.core.errors import excerpt
from pipeline_lib.core.overrides import schema
from pipeline_lib.labels import recipes
from pipeline_lib.presets import METHODS
from pipeline_lib.sweeps.plan import PARAMETERS, RELATIVE, SEED
from pipeline_lib.training.methods import METHODS as OBJECTIVES
from tasks.fields import CLEAN, LARGEST, MAX_ITEMS, NO_NAN, FileLocation, Location, SourceLocation, clean

DEPTH = 5
"""Levels of lists and mappings in a recipe, or in the value of a setting."""

JsonSchema: TypeAlias = dict[str, Any]
_KEYS: JsonSchema = {"propertyNames": {**CLEAN, "maxLength": 200}}
_Scalar = (
    Annotated[str, Field(max_length=recipes.MAX_CHARACTERS, json_schema_extra=CLEAN)]
    | bool
    | Annotated[int, Field(ge=-LARGEST, le=LARGEST)]
    | Annotated[float, Field(ge=-LARGEST, le=LARGEST, json_schema_extra=NO_NAN)]
    | None
)


def _nested(depth: int) -> Any:
    """The type of JSON of at most so many levels, for its schema; types with a name are written into it once."""
    if depth == 0:
        return TypeAliasType("Scalar", _Scalar)
    inner = _nested(depth - 1)
    items = Annotated[list[inner], Field(max_length=MAX_ITEMS)]  # type: ignore[valid-type]  # made at run time
    mapping = Annotated[dict[str, inner], Field(max_length=MAX_ITEMS, json_schema_extra=_KEYS)]  # type: ignore[valid-type]
    return TypeAliasType(f"Values{depth}", _Scalar | items | mapping)


_VALUE = TypeAdapter(_nested(DEPTH))


@dataclass(frozen=True)
class _Schema:
    """The JSON schema of a parameter, made from that of any value inside it."""

    made: Callable[[JsonSchema], JsonSchema]

    def __get_pydantic_json_schema__(self, _: CoreSchema, handler: GetJsonSchemaHandler) -> JsonSchema:
        return self.made(handler(_VALUE.core_schema))


def bounded(value: Any, depth: int = DEPTH + 2) -> Any:
    """The value itself; raises ValueError, in words, for what the server could not store and list again."""
    if isinstance(value, str):
        clean(value)
    elif isinstance(value, Mapping | list | tuple):
        if not depth:
            raise ValueError("it has too many levels of lists and mappings")
        if len(value) > MAX_ITEMS:
            raise ValueError(f"a list or mapping of {len(value)} items: give at most {MAX_ITEMS}")
        if isinstance(value, Mapping):
            for key in value:
                clean(str(key))
        for item in value.values() if isinstance(value, Mapping) else value:
            bounded(item, depth - 1)
    elif isinstance(value, int | float) and not (-LARGEST <= value <= LARGEST and math.isfinite(value)):
        raise ValueError(f"{excerpt(value)} is no finite number of 64 bits")
    return value


_ITEMS: JsonSchema = {"type": "array", "maxItems": MAX_ITEMS}
_RECIPE: JsonSchema = {
    "if": {"type": "string", "pattern": r"^[\w.-]+$"},
    "then": {"type": "string", "enum": recipes.names()},
}
"""A text of one word is a name; any other is YAML."""
_PLACES = {"base": TypeAdapter(Location), "source": TypeAdapter(SourceLocation), "prompts": TypeAdapter(FileLocation)}
_BASE, _SOURCE, _PROMPTS = (
    {key: word for key, word in place.json_schema().items() if key != "type"} for place in _PLACES.values()
)
_NAMES: dict[str, JsonSchema] = {"method": {"enum": sorted(OBJECTIVES)}, "source": _SOURCE, "prompts": _PROMPTS}
"""Settings of stages whose names or places are known."""
_RELATIVE: JsonSchema = {
    "type": "object",
    "propertyNames": {"enum": list(RELATIVE)},
    "additionalProperties": {"type": "number", "minimum": -LARGEST, "maximum": LARGEST, **NO_NAN},
}


def _mapping(known: Iterable[str], value: JsonSchema, **own: JsonSchema) -> JsonSchema:
    """A mapping with these names only, to values of which some have more keywords of their own. (With `properties` the
    UI would show a field for each name.)"""
    return {
        "type": "object",
        "propertyNames": {"type": "string", "enum": list(known)},
        "patternProperties": {f"^{name}$": {"allOf": [value, schema]} for name, schema in own.items()},
        "additionalProperties": value,
    }


def _stage(kind: type[Any], value: JsonSchema, in_sweep: bool = False) -> JsonSchema:
    """The settings of a stage by name, each with the bounds and choices of its field.

    Args:
        in_sweep: a setting may be relative to the preset's, or the training seed.
    """
    fields = {name: _strict(of) | _NAMES.get(name, {}) for name, of in schema(kind).items()}
    if in_sweep:
        fields = {name: {"anyOf": [of, _RELATIVE, {"const": SEED}]} for name, of in fields.items()}
    return _mapping(fields, value, **fields)


def _strict(of: JsonSchema) -> JsonSchema:
    """A field's schema without what only describes it, in which no number is NaN."""
    kept = {word: given for word, given in of.items() if word not in ("title", "description", "default")}
    for word in ("anyOf", "prefixItems"):
        if word in kept:
            kept[word] = [_strict(one) for one in kept[word]]
    if "items" in kept:
        kept["items"] = _strict(kept["items"])
    return kept | (NO_NAN if kept.get("type") == "number" else {})


def _settings(kind: type[Any]) -> Any:
    """The type of a flow's parameter with settings of a stage by name."""
    return Annotated[
        dict[str, Any], AfterValidator(bounded), AfterValidator(_placed), _Schema(lambda value: _stage(kind, value))
    ]


def _placed(given: dict[str, Any]) -> dict[str, Any]:
    """The settings themselves; raises ValueError for a place that none of their flow's own parameters could be."""
    for name, kind in _PLACES.items():
        if name in given:
            kind.validate_python(given[name])
    return given


def _own(value: JsonSchema) -> dict[str, JsonSchema]:
    """Keywords of the parameters of `align` that have some."""
    return {
        "method": {"enum": list(METHODS)},
        "recipe": _RECIPE,
        "train": _stage(TrainConfig, value, in_sweep=True),
        "source": _SOURCE,
        "base": _BASE,
    }


def _grid(value: JsonSchema) -> JsonSchema:
    own = {name: {"items": schema} for name, schema in _own(value).items()}
    return _mapping(PARAMETERS, {**_ITEMS, "items": value}, **own)


RecipeText = Annotated[
    str, AfterValidator(clean), Field(max_length=recipes.MAX_CHARACTERS, json_schema_extra={**CLEAN, **_RECIPE})
]
RecipeSteps = Annotated[list[Any], AfterValidator(bounded), _Schema(lambda value: {**_ITEMS, "items": value})]
Recipe: TypeAlias = RecipeText | RecipeSteps
"""A name, YAML text, or a list of steps."""
IngestSettings: TypeAlias = _settings(IngestConfig)  # type: ignore[valid-type]  # made at run time
EncodeSettings: TypeAlias = _settings(EncodeConfig)  # type: ignore[valid-type]
TrainSettings: TypeAlias = _settings(TrainConfig)  # type: ignore[valid-type]
JudgeSettings: TypeAlias = _settings(JudgeConfig)  # type: ignore[valid-type]
EvaluateSettings: TypeAlias = _settings(EvaluateConfig)  # type: ignore[valid-type]
Setting = Annotated[
    dict[str, Any], AfterValidator(bounded), _Schema(lambda value: _mapping(PARAMETERS, value, **_own(value)))
]
"""Parameters of `align`, for a sweep."""
Settings = Annotated[dict[str, Setting], Field(max_length=MAX_ITEMS, json_schema_extra=_KEYS)]
Grid = Annotated[dict[str, list[Any]], AfterValidator(bounded), _Schema(_grid)]
"""Parameters of `align` with lists of values."""
