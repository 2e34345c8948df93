"""The registry's alias `champion`: who holds it, and whether an evaluated model takes it over."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any

from prefect.logging import get_run_logger

from pipeline_lib.core.config import BaseModel
from pipeline_lib.core.errors import (
    CheckpointError,
    ConfigError,
    DatasetCorruptError,
    DatasetUnfinishedError,
    HubError,
)
from pipeline_lib.core.store import Dataset, open_dataset
from pipeline_lib.evaluation.gate import Decision, decide
from pipeline_lib.models import origin
from tasks import registry
from tasks.wanted import require_wanted

CHAMPION = "champion"
CANDIDATE = "candidate"
MODEL_DIGEST = "pipeline.model_digest"
MODEL_DATASET = "pipeline.model_dataset"
EVALUATION_DIGEST = "pipeline.evaluation_digest"
GATE = "pipeline.gate"
GATE_REASON = "pipeline.gate_reason"
GATE_RIVAL = "pipeline.gate_rival"
"""The registered version that a model was compared with, empty for the base."""
BEEN = "pipeline.champion."
"""With the beginning of a model's digest, a tag of the registered model: the version as which that model became the
champion. Who finds it there does not make the model the champion again: people, or a better model, took the alias."""


@dataclass(frozen=True)
class Rival:
    """A registered version that models are compared with.

    Attributes:
        digest: of its model dataset; "" when the version does not say, because something else registered it.
        dataset: `stage/key` of that dataset.
    """

    version: str
    digest: str
    dataset: str

    @property
    def label(self) -> str:
        """What reports call it."""
        return f"{CHAMPION} (version {self.version})"


def find_rival(name: str, digest: str) -> Rival | None:
    """The champion of `name`; None for none, which makes the base the rival.

    When the champion is the very model of `digest`, its rival is the one it was compared with when it became the
    champion: registering a model again asks the same question and gets the same answer.

    Raises:
        HubError: another user took the name, under which nothing can be registered.
    """
    registry.check_name(name)
    version = registry.aliases(name).get(CHAMPION)
    if version is None:
        return None
    tags = registry.version_tags(name, version)
    if tags.get(MODEL_DIGEST) == digest:
        version = tags.get(GATE_RIVAL, "")
        tags = registry.version_tags(name, version) if version else {}
        if not tags:
            return None
    return registered(version, tags)


def registered(version: str, tags: Mapping[str, str]) -> Rival:
    """A registered version by its tags."""
    return Rival(version, tags.get(MODEL_DIGEST, ""), tags.get(MODEL_DATASET, ""))


def open_rival(rival: Rival, store: str) -> tuple[Dataset, BaseModel] | None:
    """The rival's model dataset and the base it was trained from; None, with a warning, where one is not at hand."""
    try:
        return open_version(rival, store)
    except (CheckpointError, ConfigError, DatasetCorruptError, DatasetUnfinishedError, HubError) as error:
        get_run_logger().warning("evaluate: no comparison with the %s: %s", rival.label, error)
        return None


def open_version(version: Rival, store: str) -> tuple[Dataset, BaseModel]:
    """The model dataset in `store` that a registered version was made from, and the base it was trained from.

    Raises:
        ConfigError: the version does not say, or the store holds another model there.
        DatasetCorruptError, DatasetUnfinishedError, CheckpointError, HubError: the dataset or its base is not at hand.
    """
    if not version.digest:
        raise ConfigError("its version has no tag of a model dataset", "Register models with the flow register.")
    found = open_dataset(f"{store}/{version.dataset}")
    if found.digest != version.digest:
        raise ConfigError(f"{found.uri} is another model", "Evaluate in the store it was trained in.")
    return found, base_of(found)


def base_of(model: Dataset) -> BaseModel:
    """The base that a model dataset was trained from, its files at hand.

    Raises:
        DatasetCorruptError: files of the model are not those that were written.
        ConfigError: other files lie where the base's did.
        CheckpointError, HubError: it cannot be found or read.
    """
    model.local(origin.model_folder(model))
    base = origin.base_of(model)
    origin.check_base(model, base)
    return base


def evaluated(report: dict[str, Any], name: str, digest: str) -> dict[str, Any]:
    """The gate's answer in an evaluation's report; raises ConfigError when it is not about this very model."""
    gate = report.get("gate", {}).get(name)
    if gate is None or digest not in [source["digest"] for source in report["models"][name]["weights"]]:
        raise ConfigError(
            f"The evaluation {report['title']!r} has no answer of the gate for {name} with the digest {digest[:16]}.",
            "Run evaluate for this model, under this name, and register with the dataset it writes.",
        )
    return dict(gate)


def settle(name: str, version: str, digest: str, report: dict[str, Any]) -> Decision:
    """Move the alias `champion` of `name` to `version` if its evaluation says so; record the decision in its tags.

    A model becomes the champion once. Where the alias was taken from it afterwards, by hand or by a better model, only
    people give it back; the tags of the version that was the champion stay. A process that is killed on the way
    leaves no record, and who asks again decides again.
    """
    gate = evaluated(report, name, digest)
    holder, own = registry.aliases(name).get(CHAMPION), registry.version_tags(name, version)
    if holder:
        _remember(name, holder)  # also one that people made the champion
    if holder == version and GATE in own:
        return Decision(False, own[GATE_REASON])  # nothing changes
    rival = find_rival(name, digest)
    compared = report["champion"] and report["models"][report["champion"]]["weights"][0]["digest"]
    decision = decide(gate, compared, rival.digest if rival else None, rival.label if rival else "the base")
    tags = {GATE: "passed" if decision.promote else "not passed", GATE_RIVAL: rival.version if rival else ""}
    before = registry.model_tags(name).get(_been(digest))
    if before and decision.promote and holder != version:
        decision = Decision(False, f"{_held_back(name, holder, digest, before)} {gate['sentence']}")
    require_wanted(f"decide about the {CHAMPION} of {name}")
    if before != version or GATE not in own:
        registry.tag_version(name, version, {**tags, GATE_REASON: decision.reason})
    if decision.promote:
        registry.set_alias(name, CHAMPION, version)
        _remember(name, version)
    return decision


def _held_back(name: str, holder: str | None, digest: str, before: str) -> str:
    if holder and registry.version_tags(name, holder).get(MODEL_DIGEST) == digest:
        return f"Not promoted: this model is the champion already, as version {holder}."
    return (
        f"Not promoted: this model was the champion before, as version {before}, and the alias was taken from it; "
        "to give it back, set the alias by hand."
    )


def _remember(name: str, version: str) -> None:
    digest = registry.version_tags(name, version).get(MODEL_DIGEST)
    if digest and _been(digest) not in registry.model_tags(name):
        registry.tag_model(name, _been(digest), version)


def _been(digest: str) -> str:
    return f"{BEEN}{digest[:16]}"
