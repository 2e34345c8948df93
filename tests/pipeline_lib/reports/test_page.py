"""The skeleton and its parts."""

import pytest
from jinja2 import DictLoader, UndefinedError

from pipeline_lib.reports import page
from tests.pipeline_lib.pages import Page

TEMPLATE = """{% extends "page.html.j2" %}
{% from "parts.html.j2" import definitions, facts, panel, prompt_filter, side, table %}
{% block title %}{{ name }}{% endblock %}
{% block heading %}{{ name }}{% endblock %}
{% block facts %}{{ facts([("Rows", 3 | count)]) }}{% endblock %}
{% block main %}
<h2 id="t">Numbers</h2>
{{ table(["Scorer", "Accuracy"], [["clip" | label, 0.5 | percent]], "t", "figures") }}
{{ panel("A caption", name) }}{{ prompt_filter("f") }}{{ side(none, "alt", name, "better") }}
{{ side(damaged, "alt", "") }}
{{ definitions([("Seed", 7)]) }}
{% endblock %}"""
HOSTILE = "<script>alert(1)</script>"


def test_parts_make_a_page(monkeypatch: pytest.MonkeyPatch) -> None:
    environment = page._environment.__wrapped__("pipeline_lib.evaluation")
    monkeypatch.setattr(page, "_environment", lambda package: environment)
    environment.loader.loaders.insert(0, DictLoader({"test.html.j2": TEMPLATE}))
    html = page.render("pipeline_lib.evaluation", "test.html.j2", name=HOSTILE, damaged=b"x")
    parsed = Page(html)
    parsed.check()
    assert HOSTILE not in html and "http://" not in html and "https://" not in html and "@import" not in html
    assert any("default-src 'none'" in (meta.get("content") or "") for meta in parsed.all("meta"))
    assert any("width=device-width" in (meta.get("content") or "") for meta in parsed.all("meta"))
    assert "Rows 3" in parsed.text and "CLIP 50.0%" in parsed.text and "Seed 7" in parsed.text
    assert not parsed.all("img"), "a picture that is missing or damaged leaves the page whole"
    assert [cell["data-label"] for cell in parsed.all("td")] == ["Accuracy"]
    with pytest.raises(UndefinedError):
        page.render("pipeline_lib.evaluation", "test.html.j2")
