"""Every field of every config is set by a parameter of a flow, and read back from the config that a stage receives."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import fields
from functools import cache
from types import SimpleNamespace
from typing import Any

import jsonschema
import pytest
from prefect import Flow
from prefect.utilities.callables import parameter_schema
from prefect.utilities.schema_tools.validation import validate

from flows import compare, encode, ingest, self_training, train
from pipeline_lib.core.config import EncodeConfig, EvaluateConfig, IngestConfig, JudgeConfig, TrainConfig
from pipeline_lib.core.overrides import schema
from pipeline_lib.presets import alignment, preset
from tests.settings_examples import another

SHAPES = preset("shapes")
STAGES: dict[str, tuple[Any, Flow[..., Any], Any, str]] = {
    "ingest": (ingest, ingest.ingest, SHAPES.ingest, "ingest_units"),
    "encode": (encode, encode.encode, SHAPES.encode, "encode_shards"),
    "train": (train, train.train_dpo, alignment("shapes", "dpo").train, "train_task"),
    "judge": (self_training, self_training.self_training, JudgeConfig(), "self_training_task"),
    "evaluate": (compare, compare.compare, SHAPES.evaluate, "paint_and_judge"),
}
"""Of each mapping its module, a flow, the config that it changes, and the part of the flow that receives it."""
GIVEN: dict[str, dict[str, Any]] = {
    "ingest": {},
    "encode": {"pairs": "p"},
    "train": {"pairs": "p", "labels": "l", "encoded": "e"},
    "judge": {"models": ["m"], "pairs": "p", "encoded": "e"},
    "evaluate": {"models": ["base", "model/x"], "heldout": "h"},
}
WITH: dict[str, dict[str, Any]] = {
    "flip_rate": {"method": "robust-dpo"},
    "reference_refresh": {"method": "balanced-dpo"},
    "warmup_steps": {"steps": 100},
    "lora_targets": {"adapter": "full"},  # which names of layers the base has is looked at for LoRA only
}
"""What a training setting means something with."""


class Received(Exception):
    """Carries the config that a stage was given."""


@cache
def form(stage: str) -> dict[str, Any]:
    """What the server compares a run's parameters with."""
    return parameter_schema(STAGES[stage][1]).model_dump() | {"required": []}


def received(stage: str, given: dict[str, Any], monkeypatch: pytest.MonkeyPatch) -> Any:
    """The config that the stage receives, after the server's check of the form and Prefect's of the parameters."""
    module, flow, config, part = STAGES[stage]
    parameters = {**GIVEN[stage], "store": "/nowhere", stage: given}
    validate(parameters, form(stage), raise_on_error=True)
    checked = flow.validate_parameters(parameters)

    class Stop:
        def with_options(self, **_: Any) -> Callable[..., Any]:
            return self

        def __call__(self, *values: Any, **_: Any) -> None:
            raise Received(next(one for one in values if isinstance(one, type(config))))

    monkeypatch.setattr(module, part, Stop())

    def nothing(*_: Any, **__: Any) -> list[Any]:
        return [SimpleNamespace(model=None, base=None)] * 2

    for name in ("check_given", "checked_base", "check_lora_targets", "base_model", "find_models", "check_models"):
        if hasattr(module, name):
            monkeypatch.setattr(module, name, nothing)
    with pytest.raises(Received) as caught:
        flow.fn(**checked)
    return caught.value.args[0]


@pytest.mark.parametrize("name", [f"{stage}.{of.name}" for stage, row in STAGES.items() for of in fields(row[2])])
def test_every_field_reaches_its_stage(name: str, monkeypatch: pytest.MonkeyPatch) -> None:
    stage, _, field = name.partition(".")
    config = STAGES[stage][2]
    now = getattr(config, field)
    value = another(field, schema(type(config))[field], now)
    found = getattr(received(stage, {**WITH.get(field, {}), field: value}, monkeypatch), field)
    assert (list(found) if isinstance(found, tuple) else found) == value != now


@pytest.mark.parametrize("stage", STAGES)
def test_what_a_config_refuses_the_server_refuses_when_a_run_is_created(stage: str) -> None:
    config = STAGES[stage][2]
    server = jsonschema.Draft202012Validator(form(stage))  # as Prefect has it, made once
    for field, of in schema(type(config)).items():
        bad: list[Any] = [{}, "\0"]
        bad += [of[word] + step for word, step in (("minimum", -1), ("maximum", 1)) if word in of]
        bad += [of["exclusiveMinimum"]] if "exclusiveMinimum" in of else []
        bad += [float("nan"), float("inf")] if of.get("type") == "number" else []
        assert [value for value in bad if server.is_valid({stage: {field: value}})] == []
        assert server.is_valid({stage: {field: another(field, of, getattr(config, field))}})
    assert not server.is_valid({stage: {"no_such_setting": 1}})


def test_no_config_is_left_out() -> None:
    assert {type(row[2]) for row in STAGES.values()} == {
        IngestConfig,
        EncodeConfig,
        TrainConfig,
        JudgeConfig,
        EvaluateConfig,
    }
