"""The gate: what passes, what does not, and what is said about it."""

import numpy as np
import pytest

from pipeline_lib.core.errors import ConfigError
from pipeline_lib.evaluation.gate import Decision, Gate, decide, judge
from pipeline_lib.evaluation.winrates import TRUE, Comparison, compare


def comparison(prompts: int = 200, **rates: float) -> Comparison:
    """Every scorer's win rate as given, over prompts in a shuffled order."""
    rng = np.random.default_rng(0)
    ours = {name: rng.permutation(np.arange(prompts) < round(rate * prompts)) * 2.0 for name, rate in rates.items()}
    return compare(ours, {name: np.ones(prompts) for name in rates}, [str(i) for i in range(prompts)])


def test_a_clearly_better_model_passes() -> None:
    verdict = judge(comparison(clip=0.7, hpsv2=0.65), "base", Gate())
    assert verdict.passed
    assert verdict.sentence.startswith("Passes the gate against base: average win rate 67.5% (95% interval ")
    assert verdict.sentence.endswith("is above 50.0% with its interval; no scorer is significantly below 45.0%.")
    assert verdict.as_json()["passed"] is True


def test_the_interval_must_lie_above_not_the_point() -> None:
    verdict = judge(comparison(clip=0.55, hpsv2=0.52), "base", Gate())
    assert not verdict.passed and "is not above 50.0% with its interval" in verdict.sentence
    assert judge(comparison(5000, clip=0.55, hpsv2=0.52), "base", Gate()).passed


def test_one_scorer_significantly_below_stops_a_better_average() -> None:
    found = judge(comparison(clip=0.9, hpsv2=0.9, aesthetic=0.3), "base", Gate())
    assert [check.passed for check in found.checks] == [True, False]
    assert "significantly below 45.0%: Aesthetic 30.0%" in found.sentence and "HPSv2" not in found.sentence
    assert judge(comparison(clip=0.9, hpsv2=0.9, aesthetic=0.42), "base", Gate()).passed, "42% is not significant"


def test_the_known_truth_has_no_vote() -> None:
    assert judge(comparison(clip=0.8, **{TRUE: 0.1}), "base", Gate()).passed


def test_both_thresholds_can_be_set() -> None:
    worse = comparison(clip=0.3, hpsv2=0.3)
    assert judge(worse, "base", Gate(average=0.0, scorer=0.0)).passed
    assert not judge(comparison(clip=0.7), "base", Gate(average=0.75)).passed
    assert not judge(comparison(clip=0.9, hpsv2=0.6), "base", Gate(scorer=0.8)).passed
    for broken in ({"average": 50.0}, {"scorer": -0.1}, {"average": 1.0}):
        with pytest.raises(ConfigError, match="gate_"):
            Gate(**broken)


@pytest.mark.parametrize(
    ("passed", "compared", "champion", "promote", "says"),
    [
        (True, None, None, True, "Promoted. It does."),
        (True, "d1", "d1", True, "Promoted. It does."),
        (False, "d1", "d1", False, "Not promoted. It does."),
        (True, None, "d1", False, "does not compare it with champion (version 3), the present champion"),
        (True, "d1", "d2", False, "does not compare it with"),
        (True, "d1", None, False, "does not compare it with"),
        (True, None, "", False, "does not compare it with"),
    ],
)
def test_the_decision_is_about_the_present_champion(
    passed: bool, compared: str | None, champion: str | None, promote: bool, says: str
) -> None:
    gate = {"passed": passed, "sentence": "It does."}
    decision = decide(gate, compared, champion, "champion (version 3)")
    assert isinstance(decision, Decision)
    assert decision.promote is promote and says in decision.reason
