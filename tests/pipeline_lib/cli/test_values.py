"""What the command line is given: every field of every config as an option, from a file, or both."""

from __future__ import annotations

from dataclasses import fields
from pathlib import Path

import pytest

from pipeline_lib.cli.values import SECTIONS, dotted_options, joined, settings_file
from pipeline_lib.core.errors import ConfigError, PipelineError, UnknownNameError
from pipeline_lib.core.overrides import override, schema
from pipeline_lib.presets import preset
from tests.settings_examples import another

STARTS = {
    "ingest": preset("shapes").ingest,
    "encode": preset("shapes").encode,
    "train": preset("shapes").methods["dpo"].train,
    "judge": SECTIONS["judge"](),
    "evaluate": preset("shapes").evaluate,
}


@pytest.mark.parametrize(
    "name", [f"{section}.{one.name}" for section, kind in SECTIONS.items() for one in fields(kind)]
)
def test_every_field_is_an_option_and_reaches_the_config(name: str) -> None:
    section, _, field = name.partition(".")
    config = STARTS[section]
    value = another(field, schema(type(config))[field], getattr(config, field))
    text = str(value).lower() if isinstance(value, bool) else str(value)
    changed = override(config, dotted_options([f"--{name}", text])[section])
    found = getattr(changed, field)
    assert (list(found) if isinstance(found, tuple) else found) == value != getattr(config, field)


def test_values_are_yaml_and_products_have_names_of_their_own() -> None:
    words = [
        "--train.learning_rate=2e-5",
        "--given.scores.clip",
        "s3://b/x",
        "--given.labels",
        "/l",
        "--encode.flipped=true",
        "--encode.mixed_precision",
        "no",
    ]
    assert dotted_options(words) == {
        "train": {"learning_rate": 2e-5},
        "given": {"scores": {"clip": "s3://b/x"}, "labels": "/l"},
        "encode": {"flipped": True, "mixed_precision": "no"},
    }


@pytest.mark.parametrize(
    ("words", "said"),
    [
        (["--train.betta", "5"], "train.beta"),
        (["--trane.beta", "5"], "train"),
        (["--given.label", "x"], "given.labels"),
        (["--beta", "5"], "--train.beta"),
        (["beta"], "no option"),
        (["--train.beta"], "no value"),
        (["--train.beta", "[1"], "not YAML"),
    ],
)
def test_what_makes_no_sense_is_refused_with_what_was_meant(words: list[str], said: str) -> None:
    with pytest.raises(PipelineError) as caught:
        dotted_options(words)
    assert said in str(caught.value)


def test_an_option_takes_the_place_of_a_files_value(tmp_path: Path) -> None:
    path = tmp_path / "run.yaml"
    path.write_text("preset: shapes\nlimit: 5\ntrain: {steps: 4, beta: 3}\n")
    found = joined(settings_file(path), {"limit": 6, "preset": None, "train": {"beta": 9}})
    assert found == {"preset": "shapes", "limit": 6, "train": {"steps": 4, "beta": 9}}


@pytest.mark.parametrize(
    ("text", "error"),
    [
        ("- a\n", ConfigError),
        ("train: 5\n", ConfigError),
        ("train: {betta: 1}\n", UnknownNameError),
        ("a: [\n", ConfigError),
    ],
)
def test_a_file_that_makes_no_sense_is_refused(text: str, error: type[Exception], tmp_path: Path) -> None:
    path = tmp_path / "run.yaml"
    path.write_text(text)
    with pytest.raises(error):
        settings_file(path)


def test_a_file_that_is_not_there_or_no_text_is_refused(tmp_path: Path) -> None:
    (tmp_path / "bytes").write_bytes(b"\xff\xfe\x00\xd8")
    for path in (tmp_path / "none", tmp_path, tmp_path / "bytes"):
        with pytest.raises(ConfigError, match="cannot be read"):
            settings_file(path)
