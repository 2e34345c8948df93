"""Links of the docs work in the repository and on the site (deploy/docs_site.py); `make docs` builds all of it."""

from __future__ import annotations

from types import SimpleNamespace
from typing import Any

import pytest

from deploy import docs_site


@pytest.mark.parametrize(
    ("page", "written", "shown"),
    [
        ("index.md", "[a](docs/gpu.md#one-machine)", "[a](gpu.md#one-machine)"),
        ("index.md", "![b](docs/assets/chain.svg)", "![b](assets/chain.svg)"),
        ("index.md", "[c](CLAIMS.md)", "[c](repository/CLAIMS.md)"),
        ("gpu.md", "[d](../README.md#two-commands)", "[d](index.md#two-commands)"),
        ("gpu.md", "[e](../pipeline_lib/core/config.py)", "[e](repository/pipeline_lib/core/config.py.md)"),
        ("repository/SECURITY.md", "[f](docs/security.md)", "[f](../security.md)"),
        ("repository/CLAIMS.md", "[g](#verdicts) [h](https://example.org)", "[g](#verdicts) [h](https://example.org)"),
        (
            "gpu.md",
            "`[i](../README.md)`\n```\n[j](../README.md)\n```",
            "`[i](../README.md)`\n```\n[j](../README.md)\n```",
        ),
        ("gpu.md", "[k](nothing.md)", "[k](docs/nothing.md)"),
    ],
)
def test_links_lead_to_pages_of_the_site(page: str, written: str, shown: str) -> None:
    there: Any = SimpleNamespace(file=SimpleNamespace(src_uri=page))
    nothing: Any = None
    assert docs_site.on_page_markdown(written, there, nothing, nothing) == shown
