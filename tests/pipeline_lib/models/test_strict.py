"""Every component of a pipeline by other people: what is read is what they trained, and the rest is named."""

from __future__ import annotations

import json
import logging
import shutil
from collections.abc import Callable
from pathlib import Path
from typing import Any

import diffusers
import pytest
import torch
import transformers
from safetensors.torch import load_file, save_file
from torch import Tensor

from pipeline_lib.core.config import BaseModel
from pipeline_lib.core.errors import CheckpointError, PipelineError
from pipeline_lib.models import FAMILIES, components, parts
from pipeline_lib.models.aligned import load_pipeline
from pipeline_lib.models.identity import base_identity
from pipeline_lib.models.published import save
from pipeline_lib.training.change import original_weights
from tests.pipeline_lib import hub_server
from tests.pipeline_lib.models import tiny

State = dict[str, Tensor]
PARTS = [("v", "unet"), ("v", "vae"), ("v", "text_encoder"), ("xl", "text_encoder_2")]
BOTH = [("v", "vae"), ("xl", "text_encoder_2")]


def copied(mirror: Path, tmp_path: Path, name: str) -> Path:
    """A copy of a tiny base that a test may change; its folder."""
    return Path(shutil.copytree(mirror / "tiny" / name, tmp_path / "tiny" / name))


def weights(folder: Path, part: str) -> Path:
    """The file with a part's weights."""
    return next((folder / part).glob("*.safetensors"))


def edit(path: Path, change: Callable[[State], State | None]) -> None:
    """Rewrite the tensors of a file."""
    state = load_file(path)
    save_file(change(state) or state, path, metadata={"format": "pt"})


def load(tmp_path: Path, name: str, part: str) -> Any:
    """A part as the stages load it."""
    base = tiny.base(tmp_path, name)
    if part == "unet":
        return components.load_unet(base)
    if part == "vae":
        return components.load_vae(base, torch.float32)
    return getattr(components.load_text_pipeline(base, torch.float32, "cpu"), part)


def prefixed(prefix: str) -> Callable[[State], State]:
    return lambda state: {prefix + name: tensor for name, tensor in state.items()}


def first_set(value: float) -> Callable[[State], None]:
    def change(state: State) -> None:
        next(iter(state.values())).view(-1)[-1] = value

    return change


REFUSED: dict[str, tuple[Callable[[State], State | None], str]] = {
    "missing": (lambda s: {k: s[k] for k in list(s)[1:]}, "1 missing"),
    "half missing": (lambda s: {k: s[k] for k in list(s)[::2]}, "missing: "),
    "unexpected": (lambda s: {**s, "mid.surprise": torch.zeros(2)}, r"1 unexpected: mid\.surprise"),
    "misshapen": (
        lambda s: {k: torch.cat([t, t]) if i == 0 else t for i, (k, t) in enumerate(s.items())},
        "1 misshap",
    ),
    "flat": (lambda s: {k: t.flatten() if t.ndim == 2 else t for k, t in s.items()}, "misshapen: "),
    "nan": (first_set(float("nan")), "holds NaN or infinity"),
    "infinite": (first_set(float("-inf")), "holds NaN or infinity"),
    "quantised": (lambda s: {k: t.to(torch.int8) for k, t in s.items()}, r"no floating-point numbers.*I8"),
    "original names": (prefixed("cond_stage_model.transformer."), "an original Stable Diffusion checkpoint"),
    "other prefix": (prefixed("student."), r"unexpected: student\."),
    "twice": (
        lambda s: {**s, **{f"module.{k}": t.clone() for k, t in list(s.items())[:1]}},
        "1 there twice: .*module",
    ),
}


@pytest.mark.parametrize(("name", "part"), PARTS)
def test_what_does_not_fit_is_named(mirror: Path, tmp_path: Path, name: str, part: str) -> None:
    folder = copied(mirror, tmp_path, name)
    path = weights(folder, part)
    content = path.read_bytes()
    for fault, (change, words) in REFUSED.items():
        edit(path, change)
        with pytest.raises(CheckpointError, match=rf"{part}/.*{words}"):
            pytest.fail(f"{fault}: {load(tmp_path, name, part)} was loaded")
        path.write_bytes(content)
    load(tmp_path, name, part)


OLD_NAMES = {"to_q": "query", "to_k": "key", "to_v": "value", "to_out.0": "proj_attn"}


def before_0_12(state: State) -> State:
    """A VAE's attention by diffusers' older names."""
    for new, old in OLD_NAMES.items():
        state = {name.replace(f".{new}.", f".{old}."): tensor for name, tensor in state.items()}
    assert any(".query." in name for name in state)
    return state


HONOURED: dict[str, Callable[[State], State]] = {
    "compiled": prefixed("_orig_mod."),
    "DDP": prefixed("module."),
    "DDP of a compiled one": prefixed("module._orig_mod."),
    "FSDP": prefixed("_fsdp_wrapped_module."),
    "fp64": lambda state: {name: tensor.double() for name, tensor in state.items()},
}


@pytest.mark.parametrize(("name", "part"), PARTS)
def test_other_spellings_are_the_same_weights(mirror: Path, tmp_path: Path, name: str, part: str) -> None:
    folder = copied(mirror, tmp_path, name)
    path = weights(folder, part)
    wanted, content = load(tmp_path, name, part).state_dict(), path.read_bytes()
    ways = dict(HONOURED)
    if part == "vae":
        ways["old attention"] = before_0_12
    if "text" in part:
        ways["position ids"] = lambda state: {**state, "text_model.embeddings.position_ids": torch.arange(12)[None]}
    for change in ways.values():
        edit(path, change)
        found = load(tmp_path, name, part)
        torch.testing.assert_close(found.state_dict(), wanted, rtol=0, atol=0)
        assert not found.training
        path.write_bytes(content)
    if part == "unet":
        edit(path, HONOURED["compiled"])
        original = original_weights(tiny.base(tmp_path, name))
        assert all(torch.equal(original(key), tensor) for key, tensor in wanted.items())


@pytest.mark.parametrize("layout", ["fp16", "shards", "fp16 shards"])
def test_fp16_and_sharded_repositories_are_read(mirror: Path, tmp_path: Path, layout: str) -> None:
    """Each part in that layout alone; and what is published of it, plain diffusers loads."""
    base, folder = tiny.base(tmp_path, "xl"), copied(mirror, tmp_path, "xl")
    before = load_pipeline(None, base)
    variant = "fp16" if "fp16" in layout else None
    for part in ("unet", "vae", "text_encoder", "text_encoder_2"):
        model = getattr(before, part)
        weights(folder, part).unlink()
        size = "4KB" if "shards" in layout else "1GB"
        half = type(model).from_pretrained(
            mirror / "tiny/xl" / part, dtype=torch.float16 if variant else torch.float32
        )
        half.save_pretrained(folder / part, variant=variant, max_shard_size=size)
        assert len(list((folder / part).glob("*.safetensors"))) > 1 or "shards" not in layout
    after = load_pipeline(None, base)
    save(after, base, tmp_path / "out")
    plain = diffusers.DiffusionPipeline.from_pretrained(tmp_path / "out")
    for part in ("unet", "vae", "text_encoder", "text_encoder_2"):
        wanted = getattr(before, part).state_dict()
        if variant:
            wanted = {name: tensor.half().float() for name, tensor in wanted.items()}
        for found in (after, plain):
            stored = getattr(found, part).float().state_dict()  # transformers keeps fp16 where nobody names a type
            torch.testing.assert_close(stored, wanted, rtol=0, atol=0)


def test_what_was_saved_compiled_is_published_under_plain_names(mirror: Path, tmp_path: Path) -> None:
    base, folder = tiny.base(tmp_path, "xl"), copied(mirror, tmp_path, "xl")
    before = load_pipeline(None, base)
    for part in ("unet", "vae", "text_encoder", "text_encoder_2"):
        edit(weights(folder, part), prefixed("_orig_mod."))
    save(load_pipeline(None, base), base, tmp_path / "out")
    plain = diffusers.DiffusionPipeline.from_pretrained(tmp_path / "out")
    for part in ("unet", "vae", "text_encoder", "text_encoder_2"):
        torch.testing.assert_close(
            getattr(plain, part).state_dict(), getattr(before, part).state_dict(), rtol=0, atol=0
        )


def test_of_a_repository_on_the_hub_one_precision_is_fetched(
    mirror: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Full precision where there is one; else fp16; of pickles only their names."""
    folder = copied(mirror, tmp_path, "v")
    for part in ("unet", "vae"):
        shutil.copy(weights(folder, part), folder / part / "diffusion_pytorch_model.fp16.safetensors")
    (folder / "vae/diffusion_pytorch_model.safetensors").unlink()
    (folder / "unet/diffusion_pytorch_model.bin").write_bytes(b"x")
    weights(folder, "text_encoder").rename(folder / "text_encoder/pytorch_model.bin")
    monkeypatch.setattr("huggingface_hub.constants.HF_HUB_CACHE", str(tmp_path / "cache"))
    base = BaseModel(family="sd", repo="org/theirs", revision=hub_server.COMMIT)
    with hub_server.serve(monkeypatch, "org/theirs", folder):
        components.load_unet(base)
        components.load_vae(base, torch.float32)
        with pytest.raises(CheckpointError, match=r"text_encoder has its weights as pytorch_model\.bin only"):
            components.load_text_pipeline(base, torch.float32, "cpu")
    fetched = {path.relative_to(tmp_path / "cache").parts[-2:] for path in tmp_path.glob("cache/**/*.safetensors")}
    assert fetched == {
        ("unet", "diffusion_pytorch_model.safetensors"),
        ("vae", "diffusion_pytorch_model.fp16.safetensors"),
    }
    assert not list(tmp_path.glob("cache/**/*.bin"))


INDICES: dict[str, tuple[Callable[[dict[str, Any]], object], str]] = {
    "cut": (lambda index: json.dumps(index)[:40], "not JSON"),
    "a list": (lambda index: "[1, 2]", "not an object"),
    "no class": (lambda index: {**index, "_class_name": None}, "no _class_name"),
    "a pipeline of its own": (lambda index: {**index, "_class_name": ["pipeline", "Theirs"]}, r"is a \['pipeline'"),
    "another pipeline": (lambda index: {**index, "_class_name": "FluxPipeline"}, "is a FluxPipeline"),
    "no encoder": (lambda index: {**index, "text_encoder": [None, None]}, "names no class for text_encoder"),
    "half an entry": (lambda index: {**index, "text_encoder": ["transformers"]}, "names no class for text_encoder"),
    "a number": (lambda index: {**index, "tokenizer": 3}, "names no class for tokenizer"),
    "another encoder": (lambda index: {**index, "text_encoder": ["transformers", "T5EncoderModel"]}, "T5EncoderModel"),
    "no such class": (lambda index: {**index, "tokenizer": ["transformers", "NoSuch"]}, "tokenizer is a NoSuch"),
    "code": (lambda index: {**index, "text_encoder": ["alt_diffusion", "Theirs"]}, "code that is not run"),
}


@pytest.mark.parametrize("fault", INDICES)
def test_an_index_that_is_not_understood_is_named(mirror: Path, tmp_path: Path, fault: str) -> None:
    path = copied(mirror, tmp_path, "v") / "model_index.json"
    change, words = INDICES[fault]
    content = change(json.loads(path.read_text()))
    path.write_text(content if isinstance(content, str) else json.dumps(content))
    with pytest.raises(PipelineError, match=words):
        components.load_text_pipeline(tiny.base(tmp_path, "v"), torch.float32, "cpu")


@pytest.mark.parametrize(
    ("part", "config", "words"),
    [
        ("unet", {"_class_name": "UNet3DConditionModel"}, "UNet3DConditionModel"),
        ("unet", {"block_out_channels": [8, "x"]}, "not the configuration of a UNet2DConditionModel"),
        ("unet", {"cross_attention_dim": 24}, "misshapen"),
        ("vae", {"_class_name": "AsymmetricAutoencoderKL"}, "AsymmetricAutoencoderKL"),
        ("vae", {"latent_channels": 16}, "misshapen"),
        ("text_encoder", {"model_type": "t5"}, "that of a t5"),
        ("text_encoder", {"num_hidden_layers": 3}, r"missing: .*layers\.2\."),
        ("text_encoder", {"hidden_size": "wide"}, "hidden_size is 'wide'"),
        ("text_encoder", {"vocab_size": 50}, "misshapen"),
    ],
)
def test_a_configuration_of_other_weights_is_named(
    mirror: Path, tmp_path: Path, part: str, config: dict[str, Any], words: str
) -> None:
    path = copied(mirror, tmp_path, "v") / part / "config.json"
    path.write_text(json.dumps({**json.loads(path.read_text()), **config}))
    with pytest.raises(PipelineError, match=words):
        load(tmp_path, "v", part)


@pytest.mark.parametrize(
    ("change", "words"),
    [
        (lambda path: [file.unlink() for file in path.glob("*") if "config" not in file.name], "has no vocabulary"),
        (lambda path: (path / "tokenizer.json").write_text('{"model": '), "tokenizer"),
        (lambda path: (path / "tokenizer_config.json").write_text("[]"), "tokenizer"),
        (lambda path: (path / "tokenizer_config.json").write_text("{}"), "model_max_length is None"),
        (lambda path: (path / "tokenizer_config.json").unlink(), "tokenizer_config.json is missing"),
    ],
)
def test_a_tokenizer_without_its_words_is_refused(
    mirror: Path, tmp_path: Path, change: Callable[[Path], object], words: str
) -> None:
    change(copied(mirror, tmp_path, "v") / "tokenizer")
    with pytest.raises(PipelineError, match=words):
        components.load_text_pipeline(tiny.base(tmp_path, "v"), torch.float32, "cpu")


def test_files_that_nothing_reads_change_no_identity(mirror: Path, tmp_path: Path) -> None:
    base, folder = tiny.base(tmp_path, "v"), copied(mirror, tmp_path, "v")
    before = base_identity(base)
    for part in ("unet", "vae", "text_encoder", "tokenizer", "scheduler"):
        (folder / part / "training_args.json").write_text("{}")
        (folder / part / "README.txt").write_text("mine")
    for name in ("unet/diffusion_pytorch_model.fp16", "vae/ema", "text_encoder/model-00001-of-00002"):
        save_file({"a": torch.zeros(1)}, folder / f"{name}.safetensors")
    (folder / "vae/diffusion_pytorch_model.bin").write_bytes(b"x")
    assert base_identity(base) == before
    for part in FAMILIES.get("sd").text_parts:
        assert "training_args.json" not in parts.part_files(base, part)


@pytest.mark.parametrize(
    "file",
    ["unet/config.json", "vae/config.json", "text_encoder/config.json", "tokenizer/tokenizer_config.json"]
    + ["scheduler/scheduler_config.json", "model_index.json"]
    + [f"{part}/diffusion_pytorch_model.safetensors" for part in ("unet", "vae")]
    + ["text_encoder/model.safetensors"],
)
def test_every_file_that_is_read_is_in_the_identity(mirror: Path, tmp_path: Path, file: str) -> None:
    base, path = tiny.base(tmp_path, "v"), copied(mirror, tmp_path, "v") / file
    before = base_identity(base)
    if path.suffix == ".json":
        path.write_text(path.read_text() + " ")
    else:
        edit(path, lambda state: {name: tensor * 2 for name, tensor in state.items()})
    assert base_identity(base) != before


def test_no_warning_of_the_libraries_is_silenced_but_that_of_long_prompts(
    mirror: Path, caplog: pytest.LogCaptureFixture, monkeypatch: pytest.MonkeyPatch
) -> None:
    for library in (diffusers, transformers):
        monkeypatch.setattr(logging.getLogger(library.__name__), "propagate", True)
        library.utils.logging.set_verbosity_warning()
    pipeline = components.load_text_pipeline(tiny.base(mirror, "xl"), torch.float32, "cpu")
    assert not caplog.records
    FAMILIES.get("sdxl").encode_prompts(pipeline, ["many words " * 20])
    pipeline.tokenizer("many words " * 20)
    assert not caplog.records
    names = ("diffusers.models.modeling_utils", "diffusers.pipelines.pipeline_utils", *components._TRUNCATING)
    for name in (*names, "transformers.modeling_utils"):
        logging.getLogger(name).warning("Some weights of %s were not initialized", name)
    assert {record.name for record in caplog.records} == {*names, "transformers.modeling_utils"}
