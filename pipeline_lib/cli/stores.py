"""`prefalign store`: what a dataset holds, whether its files are whole, what may go."""

from __future__ import annotations

from typing import Annotated

import typer

from pipeline_lib.core import store_tools

app = typer.Typer(help="Look after a store of datasets.", no_args_is_help=True)
Uri = Annotated[str, typer.Argument(help="<store>/<stage>/<key>")]


@app.command()
def describe(uri: Uri) -> None:
    """Print a summary of one dataset."""
    raise typer.Exit(store_tools.main(["describe", uri]))


@app.command()
def verify(uri: Uri) -> None:
    """Read all files of a dataset again and compare them with its manifest."""
    raise typer.Exit(store_tools.main(["verify", uri]))


@app.command()
def garbage(
    store: Annotated[str, typer.Argument(help="Folder or URL of the store.")],
    keep: Annotated[
        list[str] | None, typer.Option(help="Digest or <stage>/<key> to hold on to; may be repeated.")
    ] = None,
    delete: Annotated[
        list[str] | None, typer.Option(help="<stage>/<key> of the list to delete; may be repeated.")
    ] = None,
) -> None:
    """List datasets that nothing needs, that were never finished or cannot be read; delete those that are named."""
    words = ["garbage", store]
    words += ["--keep", *keep] if keep else []
    words += ["--delete", *delete] if delete else []
    raise typer.Exit(store_tools.main(words))
