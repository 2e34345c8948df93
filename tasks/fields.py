"""Types of flows' parameters, with bounds: what lies outside is refused when a run is created, by form, CLI and REST.

Prefect's server checks a run's parameters against the JSON schema that these types become. NaN and infinities it would
store as null, which means "the preset's"; and with a whole number beyond 64 bits, half a surrogate pair or deep
nesting in one run's parameters it lists no runs any more and hands none to workers. So every parameter has a type of
this module or of values.py, and none is `Any`. Types are repeated in parts of schemas because the server's message is
about the part whose type fits.
"""

from __future__ import annotations

from typing import Annotated, Any

from pydantic import AfterValidator, Field

from pipeline_lib.core import config
from pipeline_lib.core.config import LARGEST as LARGEST
from pipeline_lib.core.config import MAX_ITEMS as MAX_ITEMS
from pipeline_lib.core.config import Count as Count
from pipeline_lib.core.config import Interval as Interval
from pipeline_lib.core.config import Pixels as Pixels
from pipeline_lib.core.config import Seed as Seed
from pipeline_lib.core.config import Steps as Steps
from pipeline_lib.core.config import Timesteps as Timesteps
from pipeline_lib.core.urls import FILE, LOCATION, SOURCE
from pipeline_lib.scoring.scorers import SCORERS
from pipeline_lib.sweeps import claim

MAX_TEXT = 4096
CLEAN: dict[str, Any] = {"type": "string", "pattern": r"^[^\u0000\ud800-\udfff]*$"}
"""No NUL, which no path and no text of PostgreSQL's can hold, and no half of a surrogate pair, which is no text."""
NO_NAN: dict[str, Any] = {"not": {"type": "number", "minimum": 1, "maximum": 0}}
"""NaN is neither below 1 nor above 0; of every other number one of the two is true."""
# Not [/:], which the tables and JSON of Prefect's command line would read as rich's markup, and fail.
_NO_WAY_UP: dict[str, Any] = {"type": "string", "not": {"pattern": r"(^|/|:)\.\.(/|$)"}}


def clean(text: str) -> str:
    """The text itself; raises ValueError where a NUL or half of a surrogate pair is in it."""
    if "\0" in text or any("\ud800" <= one <= "\udfff" for one in text):
        raise ValueError("there is a NUL, or a character that is none, in it: leave it out")
    return text


def _no_way_up(text: str) -> str:
    if ".." in text.replace(":", "/").split("/"):
        raise ValueError("'..' in a path is another folder for every process: write the whole path")
    return clean(text)


Text = Annotated[str, AfterValidator(clean), Field(max_length=MAX_TEXT, json_schema_extra=CLEAN)]
# A pattern after a validator is not written into the schema.
_PATH: dict[str, Any] = {"max_length": MAX_TEXT, "json_schema_extra": {"allOf": [CLEAN, _NO_WAY_UP]}}
Location = Annotated[str, Field(pattern=LOCATION, **_PATH), AfterValidator(_no_way_up)]
"""A path or a URL. One with a login in it, or one that leads elsewhere than to a store, is refused when a run is
created, so that the server never stores it and no worker calls it."""
FileLocation = Annotated[str, Field(pattern=FILE, **_PATH), AfterValidator(_no_way_up)]
"""As `Location`, for a file of prompts or scores (or the name of a prompt set): it may be called by any name."""
SourceLocation = Annotated[str, Field(pattern=SOURCE, **_PATH), AfterValidator(_no_way_up)]
"""As `Location`, for pairs, which may come from the model hub, too."""
Names = Annotated[list[Text], Field(max_length=MAX_ITEMS)]
Locations = Annotated[list[Location], Field(max_length=MAX_ITEMS)]
ScoreUris = Annotated[dict[str, Location], Field(max_length=MAX_ITEMS, json_schema_extra={"propertyNames": CLEAN})]
"""URIs of score datasets by scorer."""
ScorerName = Annotated[str, Field(max_length=MAX_TEXT, json_schema_extra={"enum": SCORERS.names()})]
ScorerNames = Annotated[list[ScorerName], Field(max_length=MAX_ITEMS)]
"""Reward models that can be run; others have scores of their own."""
ClaimName = Annotated[str, Field(max_length=MAX_TEXT, json_schema_extra={"enum": claim.names()})]

Seeds = Annotated[list[Seed], Field(max_length=MAX_ITEMS)]
Workers = Annotated[int, Field(ge=1, le=10_000)]
"""Processes, models or shards at a time."""
# The server would store NaN as null, so these have the bounds of the configs and one that it does not pass.
Share = Annotated[config.Share, Field(json_schema_extra=NO_NAN)]
Rate = Annotated[config.Rate, Field(json_schema_extra=NO_NAN)]
Beta = Annotated[config.Beta, Field(json_schema_extra=NO_NAN)]
Guidance = Annotated[config.Guidance, Field(json_schema_extra=NO_NAN)]
