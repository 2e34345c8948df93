"""A hook of MkDocs: README.md, and every file of the repository that a page refers to, become pages of the site.

Links in Markdown are written as they work in the repository. Here README.md becomes the first page, another Markdown
file `repository/<path>`, an image a copy, and any other file a page that shows it. A link to what is not there is left
as it is, so that the strict build names it.
"""

from __future__ import annotations

import os
import re
from collections.abc import Iterator
from pathlib import Path, PurePosixPath

from mkdocs.config.defaults import MkDocsConfig
from mkdocs.structure.files import File, Files, InclusionLevel
from mkdocs.structure.pages import Page

ROOT = Path(__file__).resolve().parents[1]
HOME = "README.md"
LINK = re.compile(r"(\]\()([^)\s#:]+)((?:#[^)\s]*)?\))")
CODE = re.compile(r"(^```.*?^```$|`[^`\n]*`)", re.MULTILINE | re.DOTALL)
LANGUAGES = {".py": "python", ".yaml": "yaml", ".yml": "yaml", ".toml": "toml"}
COPIED = {".svg", ".png"}


def on_files(files: Files, config: MkDocsConfig) -> Files:
    """Add what is outside of docs/: README.md, and what it and the other pages refer to, from page to page."""
    ahead = [HOME, *(f"docs/{file.src_uri}" for file in files.documentation_pages())]
    seen = set(ahead)
    while ahead:
        path = ahead.pop()
        if not path.startswith("docs/"):
            files.append(_file(path, config))
        if path.endswith(".md"):
            found = {target for target in _targets(path) if (ROOT / target).is_file()} - seen
            seen |= found
            ahead += [target for target in found if not target.startswith("docs/")]
    return files


def on_page_markdown(markdown: str, page: Page, config: MkDocsConfig, files: Files) -> str:
    """Have the links of a page lead to the pages of the site."""
    here = _source(page.file.src_uri)

    def lead(match: re.Match[str]) -> str:
        target = _resolve(here, match[2])
        place = _place(target) if (ROOT / target).is_file() else target
        return f"{match[1]}{_relative(place, page.file.src_uri)}{match[3]}"

    return "".join(part if part.startswith("`") else LINK.sub(lead, part) for part in CODE.split(markdown))


def _targets(path: str) -> Iterator[str]:
    """What a Markdown file of the repository refers to, as paths in the repository."""
    text = CODE.sub("", (ROOT / path).read_text(encoding="utf-8"))
    return (_resolve(path, match[2]) for match in LINK.finditer(text))


def _resolve(path: str, link: str) -> str:
    return os.path.normpath(PurePosixPath(path).parent / link)


def _relative(place: str, page: str) -> str:
    return os.path.relpath(place, PurePosixPath(page).parent)


def _place(path: str) -> str:
    """Where a file of the repository is among the site's sources."""
    if path == HOME:
        return "index.md"
    if path.startswith("docs/"):
        return path.removeprefix("docs/")
    suffix = PurePosixPath(path).suffix
    return f"repository/{path}" if suffix == ".md" or suffix in COPIED else f"repository/{path}.md"


def _source(place: str) -> str:
    """The file of the repository that a source of the site is."""
    if place == "index.md":
        return HOME
    path = place.removeprefix("repository/")
    if path == place:
        return f"docs/{place}"
    return path if (ROOT / path).is_file() else path.removesuffix(".md")


def _file(path: str, config: MkDocsConfig) -> File:
    suffix = PurePosixPath(path).suffix
    if suffix in COPIED:
        return File.generated(config, _place(path), abs_src_path=str(ROOT / path))
    text = (ROOT / path).read_text(encoding="utf-8")
    if suffix != ".md":
        text = f"---\nsearch:\n  exclude: true\n---\n# {path}\n\n````{LANGUAGES.get(suffix, 'text')}\n{text}\n````\n"
    # mkdocs.yml names the pages of the navigation; the build asks for those of docs/ only.
    return File.generated(config, _place(path), content=text, inclusion=InclusionLevel.NOT_IN_NAV)
