"""CLAIMS.md and its figures, from the claim files and the results that are kept in the project: nothing else."""

from __future__ import annotations

from collections import Counter
from collections.abc import Sequence
from pathlib import Path

from pipeline_lib.claims import results
from pipeline_lib.claims.results import Result
from pipeline_lib.claims.sections import NOT_RUN, OUTDATED, Section, sections
from pipeline_lib.claims.tables import cell, effects, settings_rows
from pipeline_lib.sweeps.claim import Claim
from pipeline_lib.sweeps.estimates import STATISTICS, settings_table
from pipeline_lib.sweeps.figure import figure
from pipeline_lib.sweeps.measures import measure_of
from pipeline_lib.sweeps.verdict import NOT_REPRODUCED, REPRODUCED, UNDECIDED, rule
from pipeline_lib.sweeps.wording import measure_label

ROOT = Path(__file__).resolve().parents[2]
DOCUMENT = "CLAIMS.md"
MARKS: dict[str, str] = {REPRODUCED: "**reproduced**", NOT_REPRODUCED: "not reproduced", UNDECIDED: "*undecided*"}
HEAD = """# The papers' claims, measured

What four papers say about aligning text-to-image models with preferences, tested with this project's implementation of
their methods. The rule of each verdict was written down before its results.
"""
RULE = """A finding is **reproduced** if the 95% interval of each of its effects lies above a bound as a whole, and not
reproduced if that of any lies below a second bound as a whole, such as the smallest effect worth having; otherwise it
is *undecided*, and more prompts or seeds would have to tell. What is not there is called reproduced in at most about
one sweep in forty. Many findings are tested here, and verdicts are not corrected for their number.
"""
MEASURE = """## Measure them again

```sh
make claims                            # measure them all on this machine, and write this file
make claims CLAIM="dpo flips"          # some of them, for instance on several machines
python -m pipeline_lib.claims write    # this file and its figures again, from pipeline_lib/claims/outcomes
```

What is in the store is not computed again, so an interrupted `make claims` continues. The same sweeps are deployments,
`sweep/<claim>-<preset>`. Settings, seeds and the rule of each verdict stand in a file of
`pipeline_lib/presets/claims`; a claim whose rules have changed since is listed as out of date. This file is generated;
a test compares it with the results.
"""


def render() -> dict[Path, str]:
    """CLAIMS.md and every figure, by path."""
    every = sections()
    files = {ROOT / DOCUMENT: _document(every)}
    for one in every:
        if one.result and one.verdicts:
            files |= {one.result.folder / _file(m): text for m, text in _figures(one.claim, one.result).items()}
    return files


def write() -> list[Path]:
    """Write what has changed, and remove figures that nothing refers to; returns the paths."""
    found, changed = render(), outdated()
    for path in changed:
        if path in found:
            path.write_text(found[path], encoding="utf-8")
        else:
            path.unlink()
    return changed


def outdated() -> list[Path]:
    """Files that are not what the claim files and results say: changed, missing, or figures that none refer to."""
    found = render()
    wrong = [path for path, text in found.items() if not path.exists() or path.read_bytes() != text.encode("utf-8")]
    return wrong + [path for path in sorted(results.FOLDER.glob("*/*.svg")) if path not in found]


def _document(every: Sequence[Section]) -> str:
    counts = Counter(word for one in every for word in one.words)
    said = ", ".join(f"{counts[word]} {word}" for word in sorted(counts))
    blocks = [HEAD, f"{_findings(counts.total())}: {said}.{_time(every)}\n", _overview(every), RULE, MEASURE]
    rows = ["## Every finding\n", "| Claim | Finding | Effect, 95% interval | Verdict |", "|---|---|---|---|"]
    for one in every:
        for number, finding in enumerate(one.claim.findings):
            word = one.words[number]
            found = effects(one.verdicts[number]) if one.verdicts else ""
            claim = _reference(one) if number == 0 else ""
            rows.append(f"| {claim} | {cell(finding.says)} | {found} | {MARKS.get(word, word)} |")
    blocks.append("\n".join(rows) + "\n")
    blocks += [_section(one) for one in every]
    blocks.append(f"## How effects are estimated\n\n{STATISTICS['interval']} {STATISTICS['against']}\n")
    return "\n".join(blocks)


def _overview(every: Sequence[Section]) -> str:
    """A row per claim: its first finding, and how many of its findings have each verdict."""
    words = [word for word in (*MARKS, OUTDATED, NOT_RUN) if any(word in one.words for one in every)]
    rows = [f"| Claim | {' | '.join(words)} | First of its findings |", f"|---|{'---:|' * len(words)}---|"]
    for one in every:
        counts, first = Counter(one.words), one.words[0]
        cells = [_reference(one), *(str(counts[word] or "") for word in words)]
        rows.append(f"| {' | '.join(cells)} | {MARKS.get(first, first)}: {cell(one.claim.findings[0].says)} |")
    return "\n".join(rows) + "\n"


def _reference(one: Section) -> str:
    return f"[{cell(one.title)}](#{_anchor(one.title)})"


def _section(one: Section) -> str:
    claim, result = one.claim, one.result
    parts = [f"## {one.title}", f"{'; '.join(claim.sources)}. {claim.says}"]
    if result is None:
        parts.append(f"Not run yet: `make claims CLAIM={claim.name}`.")
    elif not one.verdicts:
        parts.append(f"The claim file has changed since it was measured: `make claims CLAIM={claim.name}`.")
    else:
        parts += [f"**Measured:** {_measured(claim, result)}", settings_rows(claim, result)]
        parts += [f"![{measure_label(m)}]({_link(result, m)})" for m in _drawn(claim, result)]
    rules = [f"- *{finding.says}* {rule(finding)}" for finding in claim.findings]
    parts.append("<details><summary>Rules</summary>\n\n" + "\n".join(rules) + "\n\n</details>")
    parts.append(f"**What the miniature can decide:** {claim.miniature}")
    if claim.remarks:
        parts.append(f"**Remarks:** {claim.remarks}")
    return "\n\n".join(parts) + "\n"


def _measured(claim: Claim, result: Result) -> str:
    """One line: how much of what, on which prompts, for how long."""
    settings, seeds = len(claim.settings), len(claim.seeds)
    methods = ", ".join(dict.fromkeys(setting.method for setting in claim.settings))
    images = f", {len(result.image_seeds)} images each" if len(result.image_seeds) > 1 else ""
    return (
        f"{settings} settings ({methods}) with the training seeds {', '.join(map(str, claim.seeds))}: "
        f"{settings * seeds} models of `{result.preset}`, judged on {result.judged_on} prompts of `{result.prompts}`"
        f"{images}, in {_duration(result.machine.seconds)} on {_hardware(result)}. Sweep `{result.digest[:16]}`."
    )


def _figures(claim: Claim, result: Result) -> dict[str, str]:
    """Measure -> SVG."""
    drawn = _drawn(claim, result)
    table = settings_table(result.outcomes, drawn, claim.reference)
    report = {
        "title": claim.title,
        "reference": claim.reference,
        "measures": {name: {"null": measure_of(name).null, "share": measure_of(name).share} for name in drawn},
        "settings": [{"name": setting.name, **table[setting.name]} for setting in claim.settings],
    }
    return {measure: figure(report, measure) for measure in drawn}


def _drawn(claim: Claim, result: Result) -> list[str]:
    known = set(result.outcomes["measure"])
    return [measure for measure in claim.figures if measure in known]


def _file(measure: str) -> str:
    return f"{measure.replace('/', '-')}.svg"


def _link(result: Result, measure: str) -> str:
    return f"pipeline_lib/claims/outcomes/{result.folder.name}/{_file(measure)}"


def _time(every: Sequence[Section]) -> str:
    """How long all measured claims took, by hardware."""
    total: Counter[str] = Counter()
    for one in every:
        if one.result and one.verdicts:
            total[_hardware(one.result)] += round(one.result.machine.seconds)
    said = [f"{_duration(seconds)} on {hardware}" for hardware, seconds in sorted(total.items())]
    return f" Measured in {' and '.join(said)}." if said else ""


def _findings(count: int) -> str:
    return "1 finding" if count == 1 else f"{count} findings"


def _hardware(result: Result) -> str:
    machine = result.machine
    return f"one {machine.gpu}" if machine.gpu else f"{machine.cores} cores"


def _duration(seconds: float) -> str:
    minutes = max(1, round(seconds / 60))
    return f"{minutes} min" if minutes < 60 else f"{minutes // 60} h {minutes % 60:02} min"


def _anchor(title: str) -> str:
    """A heading's anchor, as GitHub makes it."""
    kept = "".join(char for char in title.lower() if char.isalnum() or char in " -_")
    return kept.replace(" ", "-")
