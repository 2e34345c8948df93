"""Files of text that people bring: their encodings, their lines, their records."""

from __future__ import annotations

import codecs
import json
import unicodedata
from collections.abc import Callable
from pathlib import Path
from typing import Any

import polars as pl
import pytest

from pipeline_lib.core.errors import ConfigError, TextFileError
from pipeline_lib.core.texts import decoded, lines
from pipeline_lib.generation.prompts import load_prompts
from pipeline_lib.scoring.score_files import read_scores

TEXT = "a café 😀\r\nプロンプト\n"


@pytest.mark.parametrize(
    "encode",
    [
        lambda text: text.encode(),
        lambda text: text.encode("utf-8-sig"),
        lambda text: text.encode("utf-16"),
        lambda text: codecs.BOM_UTF16_BE + text.encode("utf-16-be"),
        lambda text: text.encode("utf-16-le"),
        lambda text: text.encode("utf-16-be"),
    ],
)
def test_unicode_is_read_with_and_without_a_mark(encode: Callable[[str], bytes]) -> None:
    assert decoded(encode(TEXT), "here") == TEXT


@pytest.mark.parametrize(
    ("content", "says"),
    [
        ("naïve".encode("cp1252"), r"not UTF-8: byte 2 is 0xef"),
        (codecs.BOM_UTF8 + "ab£".encode("latin-1"), r"not UTF-8: byte 5 is 0xa3"),
        ("赤い".encode("shift-jis"), "not UTF-8: byte 0 is 0x90"),
        ("ab".encode("utf-16")[:-1], "not UTF-16-LE: byte 4"),
        ("a".encode("utf-32"), "UTF-32, by its byte 0"),
        (b"\x1f\x8b\x08\x00zip", "not UTF-8: byte 1 is 0x8b"),
        (b"PK\x03\x04\x14\0\0\0", "no text: byte 5 is 0x00"),
        (b"a red\0\0circle", "no text: byte 5 is 0x00"),
    ],
)
def test_other_encodings_are_refused_at_their_byte(content: bytes, says: str) -> None:
    with pytest.raises(TextFileError, match=says):
        decoded(content, "here")


def test_only_line_ends_end_a_line() -> None:
    odd = "a\u2028b\u2029c\x0cd\x0be\x85f\x1cg"
    assert lines(f"{odd}\n{odd}\r\n{odd}\r{odd}") == [odd] * 4


def prompts(path: Path, content: bytes | str) -> tuple[tuple[str, ...], tuple[str, ...]]:
    path.write_bytes(content if isinstance(content, bytes) else content.encode())
    found = load_prompts(str(path))
    return found.prompts, found.categories


RED, BLUE = "a red circle, large", "a blue square"
ROWS = [{"id": 7, "Caption": RED}, {"id": 8, "Caption": BLUE}]


@pytest.mark.parametrize(
    ("name", "content"),
    [
        ("p.TXT", f"{RED}\n\n{BLUE}"),
        ("p.Json", json.dumps([RED, BLUE])),
        ("p.json", json.dumps(ROWS)),
        ("p.json", json.dumps({"prompts": [RED, BLUE], "seeds": [1, 2, 3]})),
        ("p.json", json.dumps({"version": 2, "data": ROWS})),
        ("p.json", json.dumps({"prompt": {"0": RED, "1": BLUE}})),
        ("p.json", json.dumps({"000a": {"prompt": RED}, "000b": {"prompt": BLUE}})),
        ("p.json", json.dumps({"0": RED, "1": BLUE})),
        ("p.json", "\n".join(map(json.dumps, ROWS))),
        ("p.JSONL", f"{json.dumps(RED)}\n{json.dumps(BLUE)}\n"),
        ("p.ndjson", "".join(json.dumps({"prompt": text, "prompt_id": 3}) + "\r\n" for text in (RED, BLUE))),
        ("p.jsonl", json.dumps([RED, BLUE])),
        ("p.csv", f'\ufeffid,PROMPT\n1,"{RED}"\n2,{BLUE}\n'),
        ("p.Tsv", f"prompts\n{RED}\n{BLUE}\n"),
        ("prompts", json.dumps([RED, BLUE])),
        ("prompts.list", f"{RED}\n{BLUE}"),
        ("p.csv", f'prompt\n"{RED}"\n{BLUE}\n'.encode("utf-16")),
    ],
)
def test_prompts_in_the_forms_that_people_have(tmp_path: Path, name: str, content: bytes | str) -> None:
    assert prompts(tmp_path / name, content) == ((RED, BLUE), ())


def test_prompts_of_parquet_whatever_it_is_called(tmp_path: Path) -> None:
    table = pl.DataFrame({"prompt_id": ["x", "y", "z"], "Prompt": [RED, None, BLUE], "CATEGORY": ["one", "two", None]})
    for name in ("p.parquet", "P.PARQ", "p.txt"):
        table.write_parquet(tmp_path / name)
        found = load_prompts(str(tmp_path / name))
        assert (found.prompts, found.categories) == ((RED, BLUE), ("one", "none"))


def test_lists_by_category(tmp_path: Path) -> None:
    content = json.dumps({"anime": [RED], "photo": [BLUE, RED]})
    assert prompts(tmp_path / "all.json", content) == ((RED, BLUE), ("anime", "photo"))


@pytest.mark.parametrize("name", ["p.txt", "p.jsonl", "p.csv", "p.tsv"])
def test_odd_separators_stand_within_a_prompt(tmp_path: Path, name: str) -> None:
    odd = "a\u2028red\x0ccircle\x85here"
    content = {"p.txt": odd, "p.jsonl": json.dumps({"prompt": odd}, ensure_ascii=False)}.get(name, f"prompt\n{odd}")
    assert prompts(tmp_path / name, content)[0] == ("a red circle here",)


@pytest.mark.parametrize(
    ("name", "content", "says"),
    [
        ("p.csv", f"prompt\n{RED}\n", "line 2: 2 cells, but the header has 1"),
        ("p.csv", 'prompt\n"a red circle\na blue square\n', "line 3: unexpected end of data"),
        ("p.csv", "text;category\na;b\n", "no column 'Prompt'; it has text;category"),
        ("p.csv", "Prompt,prompt\na,b\n", "2 columns 'prompt': Prompt, prompt"),
        ("p.csv", f"prompt\n{'x' * 200_000}\n", "field larger than field limit"),
        ("p.json", '["a", {"prompt": "b"}]', "entry 1: 'a' is no object with a prompt"),
        ("p.json", '[{"prompt": "a"}, {"text": "b"}]', "entry 2, has no column 'Prompt'; it has text"),
        ("p.json", '[{"prompt": ["a"]}]', r"entry 1: the prompt is \['a'\], which is no text"),
        ("p.json", '{"model": "sdxl", "seed": "0"}', "no records"),
        ("p.json", '{"prompt": ["a"], "Prompts": ["b", "c"]}', "columns of different lengths"),
        ("p.json", "3", "3, which are no records"),
        ("p.jsonl", '{"prompt": "a"}\n\n{"prompt"\n', "neither Parquet nor JSON: in line 3"),
        ("p.json", "[" * 100_000, "neither Parquet nor JSON"),
        ("p.parquet", "a red circle", "neither|not readable Parquet"),
        ("p.txt", b"PAR1 not at all", "not readable Parquet"),
    ],
)
def test_prompts_that_cannot_be_read_say_why(tmp_path: Path, name: str, content: bytes | str, says: str) -> None:
    with pytest.raises(ConfigError, match=says):
        prompts(tmp_path / name, content)


def test_parquet_prompts_that_are_no_text(tmp_path: Path) -> None:
    pl.DataFrame({"prompt": [[{"role": "user", "content": RED}]]}).write_parquet(tmp_path / "chat.parquet")
    with pytest.raises(TextFileError, match=r"entry 1: the prompt is .*no text"):
        load_prompts(str(tmp_path / "chat.parquet"))


def test_a_single_line_of_json_is_one_prompt(tmp_path: Path) -> None:
    for line in (json.dumps(RED), json.dumps([RED]), json.dumps({"prompt": RED}), json.dumps({"prompts": [RED]})):
        assert prompts(tmp_path / "p.jsonl", line) == ((RED,), ())


def test_a_form_of_unicode_does_not_matter(tmp_path: Path) -> None:
    assert prompts(tmp_path / "p.txt", unicodedata.normalize("NFD", "a café\n"))[0] == ("a café",)


SCORES = [{"image_uid": "0", "prompt": RED, "score": 1.5}, {"image_uid": "1", "prompt": BLUE, "score": -2.0}]


@pytest.mark.parametrize(
    ("name", "content"),
    [
        ("s.CSV", f'Image_UID,Prompt,Score\n0,"{RED}",1.5\n1,{BLUE},-2\n'),
        ("s.tsv", f"score\tprompt\timage_uid\tmodel\n1.5\t{RED}\t0\tx\n-2e0\t{BLUE}\t1\t\n"),
        ("s.json", json.dumps({"image_uid": ["0", "1"], "prompt": [RED, BLUE], "score": [1.5, -2]})),
        ("s.json", json.dumps({"scores": SCORES, "note": "ours"})),
        ("s.NDJSON", "\n".join(map(json.dumps, SCORES))),
        ("scores", f'image_uid,score,prompt\n0,1.5,"{RED}"\n1,-2,{BLUE}\n'),
        ("s.jsonl", "\n".join(map(json.dumps, SCORES)).encode("utf-16")),
        ("s.json", codecs.BOM_UTF8 + json.dumps(SCORES).encode()),
    ],
)
def test_scores_in_the_forms_that_people_have(tmp_path: Path, name: str, content: bytes | str) -> None:
    (tmp_path / name).write_bytes(content if isinstance(content, bytes) else content.encode())
    (tmp_path / "plain.json").write_text(json.dumps(SCORES))
    assert read_scores(str(tmp_path / name)).rows.equals(read_scores(str(tmp_path / "plain.json")).rows)


def test_the_prompt_says_which_it_is_and_not_the_files_own_id(tmp_path: Path) -> None:
    def ids(rows: list[dict[str, Any]]) -> list[str | None]:
        (tmp_path / "s.jsonl").write_text("\n".join(map(json.dumps, rows)))
        return read_scores(str(tmp_path / "s.jsonl")).rows["prompt_id"].to_list()

    (wanted,) = ids([{"image_uid": "0", "score": 1, "prompt": RED}])
    given = {"image_uid": "0", "score": 1, "prompt_id": "001135-0100"}
    assert ids([given | {"prompt": f" {RED}\n"}, given | {"prompt": None}, given | {"prompt": " "}, given]) == [
        wanted, "001135-0100", None, "001135-0100",
    ]  # fmt: skip


@pytest.mark.parametrize(
    ("name", "content", "says"),
    [
        ("s.json", b'[{"image_uid": "caf\xe9"}]', "not UTF-8: byte 19 is 0xe9"),
        ("s.txt", b"1.5\n", "text file"),
        ("s.csv", b"image_uid,score\n0,1,5\n", "line 2: 3 cells"),
        ("s", b"a red circle", "neither Parquet nor JSON"),
    ],
)
def test_scores_that_cannot_be_read_say_why(tmp_path: Path, name: str, content: bytes, says: str) -> None:
    (tmp_path / name).write_bytes(content)
    with pytest.raises(TextFileError, match=says):
        read_scores(str(tmp_path / name))


def test_a_path_with_colons_is_a_path(tmp_path: Path) -> None:
    (tmp_path / "a::b.json").write_text(json.dumps(SCORES))
    assert len(read_scores(str(tmp_path / "a::b.json")).rows) == 2
