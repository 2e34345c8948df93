"""The skeleton of a page; templates of other packages extend `page.html.j2` and take macros from `parts.html.j2`."""

from __future__ import annotations

from functools import lru_cache
from typing import Any

from jinja2 import ChoiceLoader, Environment, PackageLoader, StrictUndefined

from pipeline_lib.core.errors import UnreadableImageError
from pipeline_lib.reports import words
from pipeline_lib.reports.pictures import Picture, picture


def render(package: str, template: str, **content: Any) -> str:
    """One self-contained HTML page.

    Args:
        package: dotted name of the package whose folder `templates` holds `template`.
        template: file name; it begins with `{% extends "page.html.j2" %}`.
        content: the template's variables. A name it uses and that is missing is an error; texts are escaped.
    """
    return _environment(package).get_template(template).render(**content)


@lru_cache
def _environment(package: str) -> Environment:
    environment = Environment(
        loader=ChoiceLoader([PackageLoader(package), PackageLoader("pipeline_lib.reports")]),
        autoescape=True,
        undefined=StrictUndefined,
        trim_blocks=True,
        lstrip_blocks=True,
    )
    environment.filters |= {
        "percent": words.percent,
        "count": words.count,
        "number": words.number,
        "signed": words.signed,
        "p_value": words.p_value,
        "label": words.label,
        "picture": _picture,
    }
    return environment


def _picture(content: bytes) -> Picture | None:
    """None for damaged bytes: a page about many pictures does not fail for one."""
    try:
        return picture(content)
    except UnreadableImageError:
        return None
