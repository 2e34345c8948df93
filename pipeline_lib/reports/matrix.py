"""A value for every pair of names, as a table whose cells are shaded: a heat map that a screen reader can walk."""

from __future__ import annotations

from collections.abc import Sequence

from markupsafe import Markup, escape


def matrix_table(
    rows: Sequence[str],
    columns: Sequence[str],
    cells: Sequence[Sequence[str]],
    heat: Sequence[Sequence[float | None]],
    caption: str,
) -> Markup:
    """A shaded table.

    Args:
        rows, columns: names at the side and on top.
        cells: text of every cell, row by row; an empty text is an empty cell.
        heat: strength of every cell's shade, -1 (the tone of "worse") over 0 (none) to 1 (the tone of "better");
            None is no shade.
        caption: what the numbers are, read out before the table.

    Raises:
        ValueError: cells or heat are not len(rows) x len(columns).
    """
    for name, given in (("cells", cells), ("heat", heat)):
        if len(given) != len(rows) or any(len(row) != len(columns) for row in given):
            raise ValueError(f"{name} are not {len(rows)} x {len(columns)}")
    head = "".join(f'<th scope="col"><span>{escape(name)}</span></th>' for name in columns)
    body = "".join(
        f'<tr><th scope="row">{escape(name)}</th>{"".join(map(_cell, texts, shades))}</tr>'
        for name, texts, shades in zip(rows, cells, heat, strict=True)
    )
    return Markup(
        f'<div class="scroll" role="region" tabindex="0" aria-label="{escape(caption)}"><table class="matrix">'
        f'<caption class="hidden">{escape(caption)}</caption><thead><tr><td></td>{head}</tr></thead>'
        f"<tbody>{body}</tbody></table></div>"
    )


def _cell(words: str, shade: float | None) -> str:
    if shade is None:
        return f"<td>{escape(words)}</td>"
    kind = "better" if shade >= 0 else "worse"
    return f'<td class="{kind}" style="--heat:{min(abs(shade), 1):.2f}">{escape(words)}</td>'
