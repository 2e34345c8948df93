"""What the parameters mean that several flows have, written once: a flow's docstring tells the others only."""

from __future__ import annotations

import inspect
import re
from collections.abc import Callable
from typing import TypeVar

F = TypeVar("F", bound=Callable[..., object])

_MAPPING = "Any other setting of {} by its name in {}, such as {}."
TEXTS: dict[str, str] = {
    "preset": "Base model, data, scorers and the settings of every stage; empty fields below take its values.",
    "recipe": "Label recipe: a name (human, balanced, dedpo25, ...), YAML text, or a list of steps; empty for the "
    "method's own.",
    "steps": "Optimizer steps.",
    "learning_rate": "Peak learning rate as it acts; these papers give it before scaling by the pairs per step.",
    "beta": "DPO strength in the official convention (logit = 0.5 * beta * ell).",
    "adapter": "lora, or full fine-tuning of the UNet.",
    "seed": "Seed of data order, noise, timesteps and dropout.",
    "source": "Source of pairs: a folder of Parquet, s3://..., hf://datasets/<repo>@<revision>, or shapes://pairs",
    "split": "Split to read, where the source has several",
    "limit": "At most this many source rows",
    "ingest": _MAPPING.format("reading pairs", "IngestConfig", '{"max_pixels": 4000000}').rstrip("."),
    "train": _MAPPING.format("the training run", "TrainConfig", '{"compile": true, "flip": 0.5}'),
    "encode": _MAPPING.format("the encoding", "EncodeConfig", '{"empty_prompt": "encoded"}'),
    "judge": _MAPPING.format("the models that judge pairs in self-training", "JudgeConfig", '{"timesteps": 8}'),
    "evaluate": _MAPPING.format("the evaluation", "EvaluateConfig", '{"seeds": [0, 1], "tie_spread": 0.05}'),
    "weights": 'Where reward-model checkpoints come from: "hub", or a directory laid out like it.',
    "prompts": "Prompt set (shapes-heldout, pickapic-validation-unique, pickapic-test-unique, partiprompts, hpdv2, "
    "drawbench), heldout for the prompts of the pairs in `heldout`, or a file of prompts.",
    "num_prompts": "At most this many prompts.",
    "guidance": "Classifier-free guidance scale.",
    "gate_average": "For @champion the average win rate must lie above this share (0.5) with its whole interval.",
    "gate_scorer": "For @champion no scorer's win rate may lie below this share (0.45) with its whole interval.",
    "pairs": "URI of an ingest dataset; empty runs ingest.",
    "scores": "URIs of score datasets by scorer; those that are missing are run.",
    "base": "Base model of the same family instead of the preset's: <org>/<name>@<revision>, a local folder, or an "
    "MLflow model URI such as models:/balanced-sdxl@champion.",
    "processes": "Trainer processes; empty for one per GPU. Their number changes no result.",
    "sharding": "fsdp spreads a full fine-tuning over the processes: AdamW, bf16 or no mixed precision.",
    "runner": "thread works in this process; ray on the workers of a Ray cluster, a GPU each where there are GPUs.",
    "address": "Ray cluster: host:port or auto on one of its nodes, ray://host:10001 from outside; empty starts one "
    "on this machine.",
    "max_workers": "Shards worked on at a time; empty for one per GPU (thread), on the CPU one per core for painting, "
    "or all that the cluster has room for (ray).",
    "heldout": "URI of an ingest dataset of pairs that were not trained on, to measure the implicit reward's accuracy "
    "on; empty for the preset's, if it has any and pairs and `weights` are its.",
    "store": "Dataset store, a folder or fsspec URL; empty for the machine's default.",
    "force": "Make again what other code made; the log says so where it is used. What is there stays.",
}
OF_PAIRS = ("source", "split", "limit", "ingest")
"""Of no use where the flow was given pairs."""
_ENTRY = re.compile(r"^    (\w+): ", re.MULTILINE)


def described(function: F) -> F:
    """Complete the Args of a flow's docstring, from which Prefect makes the descriptions in its form.

    A flow's own text for a parameter goes before the common one.

    Raises:
        RuntimeError: a parameter has neither.
    """
    before, own, after = _parts(inspect.cleandoc(function.__doc__ or ""))
    names = list(inspect.signature(function).parameters)
    if missing := [name for name in names if name not in own and name not in TEXTS]:
        raise RuntimeError(f"{function.__name__} does not say what {', '.join(missing)} means")
    lines = [f"    {name}: {own[name] if name in own else _common(name, names)}" for name in names]
    function.__doc__ = "\n\n".join(filter(None, [before, "\n".join(["Args:", *lines]), after]))
    return function


def _common(name: str, names: list[str]) -> str:
    text = TEXTS[name]
    if name in OF_PAIRS:
        text = text.rstrip(".") + (", when `pairs` is empty." if "pairs" in names else ".")
    return text


def _parts(doc: str) -> tuple[str, dict[str, str], str]:
    """What stands before the Args, the Args by name with each text on one line, and what stands after them."""
    before, _, rest = doc.partition("\nArgs:\n")
    args, _, after = rest.partition("\n\n")
    found = _ENTRY.split(args)[1:]
    own = {name: " ".join(text.split()) for name, text in zip(found[::2], found[1::2], strict=True)}
    return before.strip(), own, after.strip()
