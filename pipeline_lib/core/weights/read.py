"""Models from the weights of others: every tensor is one that the model has, and is finite.

torch is imported inside the functions, so that scorers can be named, and their files hashed, without loading it.
"""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from functools import lru_cache
from pathlib import Path
from typing import TYPE_CHECKING, Any

from pipeline_lib.core.errors import CheckpointError, PipelineError
from pipeline_lib.core.weights.files import (
    AGAIN,
    CONFIG,
    DIFFUSERS,
    TRANSFORMERS,
    Layout,
    Shape,
    json_object,
    locate,
    shapes,
)
from pipeline_lib.core.weights.keys import match, plain_name

if TYPE_CHECKING:
    import torch
    from torch import Tensor, nn

_FLOATS = ("F64", "F32", "F16", "BF16", "F8_E4M3", "F8_E5M2")
"""Types that become a model's by rounding alone; quantised integers need scales."""


def diffusers_model(cls: Any, folder: Path, dtype: torch.dtype) -> Any:
    """A model of diffusers from a folder with its configuration and weights, on the CPU, for inference.

    Raises:
        CheckpointError: the configuration is another class's, or the weights are not exactly its.
    """
    model = _diffusers_architecture(cls, folder)
    model.load_state_dict(tensors(locate(folder, DIFFUSERS), sizes(model), cls.__name__, dtype), assign=True)
    return model.eval()


def text_encoder(cls: Any, folder: Path, dtype: torch.dtype) -> Any:
    """A CLIP text encoder of transformers, as `diffusers_model`."""
    config = text_config(cls, folder)
    state = tensors(locate(folder, TRANSFORMERS), sizes(on_meta(cls, config, folder / CONFIG)), cls.__name__, dtype)
    return transformers_model(cls, config, state, dtype)


def text_config(cls: Any, folder: Path) -> Any:
    """The configuration of a CLIP text encoder; raises CheckpointError where it is of something else."""
    kind = json_object(folder / CONFIG).get("model_type", "clip_text_model")
    if kind not in ("clip_text_model", "clip"):
        raise CheckpointError(
            f"{folder / CONFIG} is that of a {kind}, not of a {cls.__name__}.", "Give a model with CLIP text encoders."
        )
    with reading(folder / CONFIG, f"the configuration of a {cls.__name__}", AGAIN):
        return cls.config_class.from_pretrained(folder, local_files_only=True)


def transformers_model(cls: Any, config: Any, state: dict[str, Tensor], dtype: torch.dtype) -> Any:
    """A model of transformers with exactly the tensors `state`, by the model's names."""
    from transformers.utils import logging

    logging.disable_progress_bar()
    return cls.from_pretrained(None, config=config, state_dict=state, dtype=dtype)


def on_meta(cls: Any, config: Any, path: Path) -> Any:
    """A model of transformers without weights, from the configuration that is in `path`."""
    import torch

    with reading(path, f"the configuration of a {cls.__name__}", AGAIN), torch.device("meta"):
        return cls(config)


def check(cls: Any, folder: Path, stem: str) -> Any:
    """Raise CheckpointError where `diffusers_model` or `text_encoder` would; a file's values are read once.

    Returns:
        The model's configuration.
    """
    if stem == DIFFUSERS:
        model = _diffusers_architecture(cls, folder)
    else:
        model = on_meta(cls, text_config(cls, folder), folder / CONFIG)
    layout = locate(folder, stem)
    _matched(layout, sizes(model), cls.__name__)
    for path in layout.shards:
        stat = path.stat()
        _check_file(path, stat.st_mtime_ns, stat.st_size)
    return model.config


def sizes(model: nn.Module) -> dict[str, Shape]:
    """Names and shapes of a model's tensors."""
    return {name: tuple(tensor.shape) for name, tensor in model.state_dict().items()}


def tensors(layout: Layout, own: Mapping[str, Shape], kind: str, dtype: torch.dtype) -> dict[str, Tensor]:
    """The tensors of a model of class `kind`, by its own names, in `dtype`; raises CheckpointError."""
    from safetensors.torch import load_file

    matched = _matched(layout, own, kind)
    found: dict[str, Tensor] = {}
    for path in layout.shards:
        with reading(path, "a file of safetensors", AGAIN):
            stored = load_file(path)
        for name in list(stored):
            if name in matched:
                tensor = stored.pop(name)
                check_finite(tensor, name, path)
                found[matched[name]] = tensor.to(dtype)
    return found


def stored_tensors(cls: Any, folder: Path) -> dict[str, tuple[Path, str]]:
    """Of a model of diffusers: its tensors' files, and their names in these."""
    layout = locate(folder, DIFFUSERS)
    matched = _matched(layout, sizes(_diffusers_architecture(cls, folder)), cls.__name__)
    files = shapes(layout)
    return {own_name: (files[name][0], name) for name, own_name in matched.items()}


def unwrapped(layout: Layout) -> dict[str, Tensor] | None:
    """The tensors of a model that was saved compiled or distributed, under their plain names; None for others."""
    if all(plain_name(name) == name for name in shapes(layout)):
        return None
    from safetensors.torch import load_file

    stored = {name: tensor for path in layout.shards for name, tensor in load_file(path).items()}
    return {plain_name(name): tensor for name, tensor in stored.items()}


def check_finite(tensor: Tensor, name: str, path: Path) -> None:
    """Raise CheckpointError for a tensor with NaN or infinity."""
    values = tensor.float() if tensor.element_size() == 1 else tensor
    if not values.isfinite().all():
        raise CheckpointError(
            f"{path}: {name} holds NaN or infinity: these weights have diverged, or overflowed when they were stored.",
            "Give an earlier checkpoint of the model, or one stored in fp32.",
        )


@contextmanager
def reading(path: Path, what: str, remedy: str) -> Iterator[None]:
    """Inside, whatever a library raises over a damaged file becomes a CheckpointError that names it.

    Args:
        what: what the file should be, with its article.
    """
    try:
        yield
    except (PipelineError, MemoryError):
        raise
    except (
        Exception
    ) as error:  # libraries raise a dozen types (pickle, zip, JSON, OS, ...) for a file that is not right
        raise CheckpointError(f"{path} is not {what}: {type(error).__name__}: {error}", remedy) from error


@lru_cache(maxsize=256)
def _check_file(path: Path, modified: int, size: int) -> None:
    """Whether a file's values are finite: read once per process, modification time and size."""
    from safetensors.torch import load_file

    del modified, size  # only tell contents of the same name apart
    with reading(path, "a file of safetensors", AGAIN):
        for name, tensor in load_file(path).items():
            check_finite(tensor, name, path)


def _matched(layout: Layout, own: Mapping[str, Shape], kind: str) -> dict[str, str]:
    found = shapes(layout)
    where = layout.index or layout.shards[0]
    matched = match({name: shape for name, (_, _, shape) in found.items()}, own, kind, where)
    if quantised := [f"{name} ({found[name][1]})" for name in matched if found[name][1] not in _FLOATS]:
        raise CheckpointError(
            f"{where}: {len(quantised)} weights are no floating-point numbers, for example {quantised[0]}.",
            "Give the model as it was before quantisation.",
        )
    return matched


def _diffusers_architecture(cls: Any, folder: Path) -> Any:
    import torch

    config = json_object(folder / CONFIG)
    if (named := config.get("_class_name", cls.__name__)) != cls.__name__:
        raise CheckpointError(
            f"{folder / CONFIG} is that of a {named}, not of a {cls.__name__}.", "Give a model of this architecture."
        )
    with reading(folder / CONFIG, f"the configuration of a {cls.__name__}", AGAIN), torch.device("meta"):
        return cls.from_config(config)
