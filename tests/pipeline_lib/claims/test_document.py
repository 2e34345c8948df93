"""CLAIMS.md: the committed one against the committed results, and what is written for results that are known."""

import json
import re
from pathlib import Path
from xml.etree import ElementTree

import polars as pl
import pytest

from pipeline_lib.claims import __main__ as command
from pipeline_lib.claims import document, results
from pipeline_lib.claims.results import Machine, keep
from pipeline_lib.core.errors import ConfigError
from pipeline_lib.sweeps.claim import load, names
from pipeline_lib.sweeps.verdict import judge
from tests.pipeline_lib.claims.plain import RAW, lay_out, outcomes, put_claim

MACHINE = Machine(cores=2, gpu=None, seconds=4100.0)
REPORT = {"preset": "shapes", "image_seeds": [0], "prompts": {"name": "shapes-test", "used": 64}}
DIGEST = "ab" * 32


def test_document_is_what_the_claims_and_results_say() -> None:
    """Byte for byte, with the figures; `python -m pipeline_lib.claims write` writes them."""
    assert [str(path.relative_to(document.ROOT)) for path in document.outdated()] == []
    text = (document.ROOT / document.DOCUMENT).read_text(encoding="utf-8")
    for name in names():
        claim = load(name)
        assert f"## {claim.title}" in text
        assert all(finding.says in text for finding in claim.findings)


def test_every_result_is_of_a_claim_and_whole() -> None:
    for folder in results.FOLDER.glob("*"):
        found = results.read(folder)
        run = json.loads((folder / results.RUN).read_text())
        assert folder.name == f"{run['claim']}-{found.preset}"
        claim = load(run["claim"])
        if found.rules == claim.rules:
            rows = found.outcomes
            assert set(claim.shown) == set(rows["measure"])
            assert set(rows["setting"]) == {setting.name for setting in claim.settings}
            assert set(rows["seed"]) == set(claim.seeds)


@pytest.fixture
def project(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """A project with one claim and no results."""
    lay_out(tmp_path, monkeypatch)
    return tmp_path


def rows(text: str, verdict: str) -> list[str]:
    return [line for line in text.splitlines() if line.startswith("|") and line.endswith(f"| {verdict} |")]


def test_claims_without_results_are_listed_as_not_run(project: Path) -> None:
    assert document.write() == [project / "CLAIMS.md"]
    text = (project / "CLAIMS.md").read_text()
    assert "2 findings: 2 not run." in text
    assert len(rows(text, "not run")) == 2
    assert "make claims CLAIM=flips" in text
    assert document.outdated() == []


def test_results_become_verdicts_tables_and_figures(project: Path) -> None:
    claim = put_claim(project, remarks="As expected.")
    assert keep(claim, outcomes(), REPORT, DIGEST, MACHINE)
    folder = project / "pipeline_lib" / "claims" / "outcomes" / "flips-shapes"
    figures = [folder / "gain-true.svg", folder / "win-true.svg"]
    assert set(document.write()) == {project / "CLAIMS.md", *figures}
    text = (project / "CLAIMS.md").read_text()
    effect = judge(outcomes(), claim.findings[0]).contrasts[0].effect
    (degrades,) = rows(text, "**reproduced**")
    assert f"Gain, True utility, s0 − s2: +{effect.point:.3f} [+{effect.low:.3f}, +{effect.high:.3f}]" in degrades
    assert "2 findings: 1 reproduced, 1 undecided. Measured in 1 h 08 min on 2 cores." in text
    (overview,) = (line for line in text.splitlines() if line.startswith("| [Flips hurt](#flips-hurt) | 1 |"))
    assert overview == "| [Flips hurt](#flips-hurt) | 1 | 1 | **reproduced**: 30% flips cost |"
    assert text.index(overview) < text.index("## "), "it is on the first screen"
    assert "3 settings (dpo) with the training seeds 0, 1, 2: 9 models of `shapes`" in text
    assert "judged on 64 prompts of `shapes-test`, in 1 h 08 min on 2 cores. Sweep `abababababababab`" in text
    assert "**What the miniature can decide:** Small models, small effects." in text
    assert "**Remarks:** As expected." in text
    table = [line for line in text.splitlines() if re.match(r"\| s[012] \|", line)]
    assert [line.count("|") for line in table] == [6, 6, 6]
    assert "< 0.001" in table[2] and "< 0.001" not in table[1]
    for path in figures:
        assert f"](pipeline_lib/claims/outcomes/flips-shapes/{path.name})" in text
        assert ElementTree.fromstring(path.read_text()).tag.endswith("svg")
    assert document.outdated() == []


def test_every_byte_counts(project: Path, capsys: pytest.CaptureFixture[str]) -> None:
    keep(put_claim(project), outcomes(), REPORT, DIGEST, MACHINE)
    assert command.main(["write"]) == 0
    assert command.main(["check"]) == 0
    capsys.readouterr()
    figure = project / "pipeline_lib" / "claims" / "outcomes" / "flips-shapes" / "win-true.svg"
    stray = figure.with_name("win-clip.svg")
    stray.write_text("<svg/>")
    for path in (project / "CLAIMS.md", figure):
        path.write_bytes(path.read_bytes() + b"\n")
    assert command.main(["check"]) == 1
    said = capsys.readouterr().out.splitlines()
    folder = "pipeline_lib/claims/outcomes/flips-shapes"
    assert set(said) == {
        f"out of date: {name}" for name in ("CLAIMS.md", f"{folder}/win-true.svg", f"{folder}/win-clip.svg")
    }
    assert command.main(["write"]) == 0
    assert command.main(["check"]) == 0
    assert not stray.exists()


def test_a_changed_rule_needs_another_run(project: Path) -> None:
    keep(put_claim(project), outcomes(), REPORT, DIGEST, MACHINE)
    findings = {"degrades": {**RAW["findings"]["degrades"], "says": "Flips cost, in other words"}}
    put_claim(project, findings={**RAW["findings"], **findings}, remarks="Later.")
    document.write()
    assert "1 reproduced, 1 undecided" in (project / "CLAIMS.md").read_text(), "words may change"
    looser = [{"measure": "gain/true", "of": {"s0": 1, "s2": -1}, "above": -1.0}]
    put_claim(project, findings={**RAW["findings"], "degrades": {"says": "x", "contrasts": looser}})
    document.write()
    text = (project / "CLAIMS.md").read_text()
    assert len(rows(text, "out of date")) == 2
    assert "The claim file has changed since it was measured: `make claims CLAIM=flips`." in text
    assert ".svg" not in text


def test_results_of_two_presets_stand_side_by_side(project: Path) -> None:
    claim = load("flips")
    keep(claim, outcomes(1), {**REPORT, "preset": "sd15"}, DIGEST, Machine(cores=16, gpu="H100", seconds=90_000.0))
    keep(claim, outcomes(), REPORT, DIGEST, MACHINE)
    document.write()
    text = (project / "CLAIMS.md").read_text()
    assert re.findall("^## (.*)$", text, re.MULTILINE)[2:4] == ["Flips hurt", "Flips hurt (sd15)"]
    assert "](#flips-hurt-sd15)" in text
    assert "4 findings" in text
    assert "in 1 h 08 min on 2 cores and 25 h 00 min on one H100" in text


def test_the_same_results_are_kept_once_and_only_what_is_shown(project: Path) -> None:
    claim = load("flips")
    assert keep(claim, outcomes(), REPORT, DIGEST, MACHINE)
    folder = project / "pipeline_lib" / "claims" / "outcomes" / "flips-shapes"
    before = {path.name: path.read_bytes() for path in folder.iterdir()}
    assert not keep(claim, outcomes(), REPORT, DIGEST, Machine(cores=2, gpu=None, seconds=3.0)), "a run that skipped"
    assert {path.name: path.read_bytes() for path in folder.iterdir()} == before
    kept = pl.read_parquet(folder / "outcomes.parquet")
    assert set(kept["measure"]) == {"gain/true", "win/true"}
    assert kept.height == 2 * 3 * 64 * 3
    assert keep(claim, outcomes(1), REPORT, "cd" * 32, MACHINE)
    assert keep(put_claim(project, figures=["gain/average"]), outcomes(1), REPORT, "cd" * 32, MACHINE)
    assert "gain/average" in set(pl.read_parquet(folder / "outcomes.parquet")["measure"])


@pytest.mark.parametrize("name", [results.OUTCOMES, results.RUN])
def test_results_that_cannot_be_read_are_named(project: Path, name: str, capsys: pytest.CaptureFixture[str]) -> None:
    keep(load("flips"), outcomes(), REPORT, DIGEST, MACHINE)
    path = project / "pipeline_lib" / "claims" / "outcomes" / "flips-shapes" / name
    path.write_bytes(path.read_bytes()[:-20])
    with pytest.raises(ConfigError, match=r"flips-shapes: its results cannot be read"):
        document.render()
    assert command.main(["check"]) == 1
    assert "error: flips-shapes" in capsys.readouterr().err
