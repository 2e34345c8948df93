"""Types of flows' parameters that hold values within values: recipes, settings, and the grids of sweeps.

Their JSON schema bounds every value inside, at most `DEPTH` levels down; what the values mean is checked by the flow.
"""

from __future__ import annotations

import math
from collections.abc import Callable, Iterable, Mapping
from dataclasses import dataclass, fields
from typing import Annotated, Any, TypeAlias

from pydantic import AfterValidator, Field, GetJsonSchemaHandler, TypeAdapter
from pydantic_core import CoreSchema
from typing_extensions import TypeAliasType

from pipeline_lib.core.config import TrainConfig
from pipeline_lib.core.errors import excerpt
from pipeline_lib.labels import recipes
from pipeline_lib.presets import METHODS
from pipeline_lib.sweeps.plan import PARAMETERS
from pipeline_lib.training.methods import METHODS as OBJECTIVES
from tasks.fields import CLEAN, LARGEST, MAX_ITEMS, NO_NAN, Location, SourceLocation, clean

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
_BASE, _SOURCE = (
    {key: word for key, word in TypeAdapter(place).json_schema().items() if key != "type"}
    for place in (Location, SourceLocation)
)


def _mapping(known: Iterable[str], value: JsonSchema, **own: JsonSchema) -> JsonSchema:
    """A mapping with these names only, to values of which some have more keywords of their own. (With `properties` the
    UI would show a field for each name.)"""
    return {
        "type": "object",
        "propertyNames": {"type": "string", "enum": list(known)},
        "patternProperties": {f"^{name}$": {"allOf": [value, schema]} for name, schema in own.items()},
        "additionalProperties": value,
    }


def _train_settings(value: JsonSchema) -> JsonSchema:
    return _mapping([one.name for one in fields(TrainConfig)], value, method={"enum": sorted(OBJECTIVES)})


def _own(value: JsonSchema) -> dict[str, JsonSchema]:
    """Keywords of the parameters of `align` that have some."""
    return {
        "method": {"enum": list(METHODS)},
        "recipe": _RECIPE,
        "settings": _train_settings(value),
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
TrainSettings = Annotated[dict[str, Any], AfterValidator(bounded), _Schema(_train_settings)]
"""Fields of TrainConfig by name."""
Setting = Annotated[
    dict[str, Any], AfterValidator(bounded), _Schema(lambda value: _mapping(PARAMETERS, value, **_own(value)))
]
"""Parameters of `align`, for a sweep."""
Settings = Annotated[dict[str, Setting], Field(max_length=MAX_ITEMS, json_schema_extra=_KEYS)]
Grid = Annotated[dict[str, list[Any]], AfterValidator(bounded), _Schema(_grid)]
"""Parameters of `align` with lists of values."""
