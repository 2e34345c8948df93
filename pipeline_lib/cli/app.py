"""The commands of `prefalign`.

Exit codes: 0 done; 1 an error that its message explains; 2 a command line that makes no sense; 130 stopped by Ctrl-C,
after the trainer's checkpoint.
"""

from __future__ import annotations

import sys
from importlib.metadata import entry_points
from importlib.util import find_spec
from pathlib import Path
from typing import Annotated, Any

import typer

from pipeline_lib.cli import runs, stores
from pipeline_lib.core.errors import PipelineError

INTERRUPTED = 130
OF_CHECKOUTS = "preference_alignment.commands"
"""Entry points of commands that the library must not import, such as `doctor`."""
_ANY = {"allow_extra_args": True, "ignore_unknown_options": True}

app = typer.Typer(
    help="Align text-to-image models with preferences, without any server.",
    no_args_is_help=True,
    add_completion=False,
    rich_markup_mode=None,
    pretty_exceptions_enable=False,
)
app.add_typer(stores.app, name="store")

Text = str | None


def _stage(goal: str, about: str) -> Any:
    def command(
        context: typer.Context,
        preset: Annotated[Text, typer.Option(help="Base model, data and hyper-parameters.")] = None,
        method: Annotated[Text, typer.Option(help="dpo, balanced, dedpo or adaptive.")] = None,
        store: Annotated[Text, typer.Option(help="Folder or URL that holds the datasets.")] = None,
        recipe: Annotated[Text, typer.Option(help="Label recipe: a name or YAML.")] = None,
        source: Annotated[Text, typer.Option(help="Source of pairs.")] = None,
        split: Annotated[Text, typer.Option(help="Split to read.")] = None,
        limit: Annotated[int | None, typer.Option(help="At most this many source rows.")] = None,
        scorers: Annotated[Text, typer.Option(help="Reward models that judge, with commas between.")] = None,
        scorer_source: Annotated[Text, typer.Option(help='Where reward models come from: "hub" or a mirror.')] = None,
        base: Annotated[Text, typer.Option(help="Base model: <org>/<name>[@<revision>] or a folder.")] = None,
        prompts: Annotated[Text, typer.Option(help="Prompts of the evaluation: a set or a file.")] = None,
        num_prompts: Annotated[int | None, typer.Option(help="At most this many of them.")] = None,
        steps: Annotated[int | None, typer.Option(help="Optimizer steps (--train.steps).")] = None,
        seed: Annotated[int | None, typer.Option(help="Training seed (--train.seed).")] = None,
        processes: Annotated[int | None, typer.Option(help="Trainer processes.")] = None,
        sharding: Annotated[Text, typer.Option(help="none or fsdp.")] = None,
        config: Annotated[Path | None, typer.Option(help="YAML file of settings.")] = None,
        as_json: Annotated[bool, typer.Option("--json", help="Print the result as one JSON object.")] = False,
    ) -> None:
        options = {
            "preset": preset,
            "method": method,
            "store": store,
            "recipe": recipe,
            "source": source,
            "split": split,
            "limit": limit,
            "scorers": scorers,
            "scorer_source": scorer_source,
            "base": base,
            "prompts": prompts,
            "num_prompts": num_prompts,
            "train": {name: value for name, value in {"steps": steps, "seed": seed}.items() if value is not None},
            "processes": processes,
            "sharding": sharding,
        }
        runs.run(goal, options, context.args, config, as_json)

    command.__doc__ = f"""{about}

    Every field of the stages' configs is an option, too: --train.beta 500, --encode.resolution 768,
    --evaluate.seeds '[0, 1]'. --given.<product> <URI> takes a dataset that is there in place of making it.
    """
    return command


for _name, (_goal, _about) in runs.GOALS.items():
    app.command(_name, context_settings=_ANY)(_stage(_goal, _about))


@app.command()
def explain(recipe: Annotated[str, typer.Argument(help="A name, YAML text, or a YAML file.")]) -> None:
    """Say in words what a label recipe does, and whose scores it needs."""
    from pipeline_lib.labels.explain import explain as in_words

    typer.echo(in_words(runs.recipe_of(recipe)))


@app.command()
def report(uri: Annotated[str, typer.Argument(help="An evaluation dataset: <store>/evaluation/<key>.")]) -> None:
    """Print the headline of an evaluation, and where its page lies."""
    typer.echo(runs.headline_of(uri))


@app.command(context_settings=_ANY)
def doctor(context: typer.Context) -> None:
    """Say what is wrong with servers, workers, GPU, disks and downloads (needs a checkout of the project)."""
    found = [one for one in entry_points(group=OF_CHECKOUTS) if one.name == "doctor"]
    if not found or find_spec(found[0].module.partition(".")[0]) is None:
        typer.echo(
            "The doctor looks at servers and workers, which a checkout of the project starts. "
            "There it is `make doctor`; this installation holds the library alone.",
            err=True,
        )
        raise typer.Exit(1)
    raise typer.Exit(found[0].load()(context.args))


def main(arguments: list[str] | None = None) -> int:
    """Run the command line; returns the exit code."""
    try:
        words = sys.argv[1:] if arguments is None else arguments
        code = app(args=words, prog_name="prefalign", standalone_mode=False)
    except PipelineError as error:
        typer.echo(f"error: {error.problem}\n-> {error.remedy}", err=True)
        return 1
    except (KeyboardInterrupt, typer.Abort):
        typer.echo("\nStopped. What is finished is in the store; the same command goes on from there.", err=True)
        return INTERRUPTED
    except Exception as error:
        if hasattr(error, "format_message"):  # of typer's own parser
            typer.echo(f"error: {error.format_message()}", err=True)
            return 2
        raise
    return code if isinstance(code, int) else 0
