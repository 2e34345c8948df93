"""LoRAs of other trainers: read as plain diffusers or PEFT merge them, to the last bit, or refused by their fault."""

from __future__ import annotations

import copy
import json
import re
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
import torch
from peft import PeftModel
from torch import Tensor

from pipeline_lib.core.errors import CheckpointError
from pipeline_lib.models.components import empty_unet, load_unet
from pipeline_lib.models.lora import fuse, read_lora
from tests.pipeline_lib.models import loras, tiny
from tests.pipeline_lib.models.loras import Weights

BASES = ("epsilon", "xl")


@pytest.fixture(scope="module")
def unets(mirror: Path) -> dict[str, Any]:
    return {name: load_unet(tiny.base(mirror, name)) for name in BASES}


@pytest.fixture(scope="module")
def given(mirror: Path) -> dict[str, Weights]:
    return {name: loras.weights(mirror / "tiny" / name) for name in BASES}


@pytest.fixture(scope="module")
def wanted(mirror: Path, given: dict[str, Weights]) -> dict[str, Weights]:
    return {name: loras.fused_by_diffusers(mirror / "tiny" / name, loras.peft_names(given[name])) for name in BASES}


def fused(file: Path, unet: Any) -> Weights:
    mine = copy.deepcopy(unet)
    fuse(mine, read_lora(file, mine, "the base"))
    return dict(mine.state_dict())


def assert_same(found: Weights, expected: Weights, original: Weights, changed: int) -> None:
    assert found.keys() == expected.keys()
    assert [name for name in expected if not torch.equal(found[name], expected[name])] == []
    assert sum(not torch.equal(found[name], original[name]) for name in original) == changed


@pytest.mark.parametrize("trainer", loras.FORMATS)
@pytest.mark.parametrize("name", BASES)
def test_every_trainers_names_make_what_plain_diffusers_makes(
    name: str,
    trainer: str,
    given: dict[str, Weights],
    wanted: dict[str, Weights],
    unets: dict[str, Any],
    tmp_path: Path,
) -> None:
    file = loras.save(loras.FORMATS[trainer](given[name]), tmp_path / "lora.safetensors")
    assert_same(fused(file, unets[name]), wanted[name], unets[name].state_dict(), len(given[name]) // 2)


@pytest.mark.parametrize("name", BASES)
def test_kohyas_layers_ranks_and_alphas(name: str, mirror: Path, unets: dict[str, Any], tmp_path: Path) -> None:
    """Its trainer adapts feed-forward and projections, too; in SD1.5 these are convolutions of 1 x 1."""
    folder = mirror / "tiny" / name
    lora = loras.kohya(loras.weights(folder, loras.KOHYAS), alpha=3)
    assert any(tensor.ndim == 4 for tensor in lora.values())
    expected = loras.fused_by_diffusers(folder, lora)
    file = loras.save(lora, tmp_path / "lora.safetensors")
    assert_same(fused(file, unets[name]), expected, unets[name].state_dict(), len(lora) // 3)
    half = {name: tensor.half() for name, tensor in lora.items()}
    assert_same(
        fused(loras.save(half, tmp_path / "half.safetensors"), unets[name]),
        loras.fused_by_diffusers(folder, {name: tensor.float() for name, tensor in half.items()}),
        unets[name].state_dict(),
        len(lora) // 3,
    )


def test_each_layer_has_its_own_rank_and_alpha(mirror: Path, unets: dict[str, Any], tmp_path: Path) -> None:
    """By kohya's own formula: of several alphas plain diffusers with today's PEFT applies one to all layers."""
    folder, original = mirror / "tiny/epsilon", unets["epsilon"].state_dict()
    some, others = loras.weights(folder, ("to_q",)), loras.weights(folder, ("to_v",), rank=4)
    file = loras.save(loras.kohya(some, alpha=1) | loras.kohya(others, alpha=12), tmp_path / "lora.safetensors")
    expected = dict(original)
    for lora, scale in ((some, 1 / 2), (others, 12 / 4)):
        for down in [name for name in lora if name.endswith(".lora_A.weight")]:
            layer = down.removesuffix(".lora_A.weight")
            expected[f"{layer}.weight"] = (
                original[f"{layer}.weight"] + scale * lora[f"{layer}.lora_B.weight"] @ lora[down]
            )
    found = fused(file, unets["epsilon"])
    assert max(float((found[name] - expected[name]).abs().max()) for name in expected) < 1e-6
    assert sum(not torch.equal(found[name], original[name]) for name in original) == (len(some) + len(others)) // 2


def test_sdxls_blocks_by_stabilitys_names(mirror: Path, unets: dict[str, Any], tmp_path: Path) -> None:
    folder = mirror / "tiny/xl"
    ours = loras.kohya(loras.weights(folder, loras.KOHYAS), alpha=1)
    blocks = {  # a level is its layers and a sampler; with the attention second in its block
        "down_blocks_1_attentions_0": "input_blocks_3_1",
        "mid_block_attentions_0": "middle_block_1",
        "up_blocks_0_attentions_0": "output_blocks_0_1",
        "up_blocks_0_attentions_1": "output_blocks_1_1",
    }
    theirs = {}
    for name, tensor in ours.items():
        (block,) = [block for block in blocks if name.startswith(f"lora_unet_{block}_")]
        theirs[name.replace(block, blocks[block])] = tensor
    expected = loras.fused_by_diffusers(folder, theirs)
    file = loras.save(theirs, tmp_path / "lora.safetensors")
    assert_same(fused(file, unets["xl"]), expected, unets["xl"].state_dict(), len(theirs) // 3)


def test_convolutions(mirror: Path, unets: dict[str, Any], tmp_path: Path) -> None:
    folder = mirror / "tiny/epsilon"
    lora = loras.weights(folder, loras.CONVOLUTIONS)
    expected = loras.fused_by_diffusers(folder, loras.peft_names(lora))
    for trainer in (loras.peft_names, loras.kohya):
        file = loras.save(trainer(lora), tmp_path / f"{trainer.__name__}.safetensors")
        assert_same(fused(file, unets["epsilon"]), expected, unets["epsilon"].state_dict(), len(lora) // 2)


SETTINGS: dict[str, dict[str, Any]] = {
    "alpha": {},
    "rank-stabilised": {"use_rslora": True},
    "patterns": {"alpha_pattern": {"attn1.to_q": 5, r"mid_block\..*\.to_v": 8}, "rank_pattern": {"to_q": 2}},
}


@pytest.mark.parametrize("settings", SETTINGS)
def test_a_folder_of_peft(
    settings: str, mirror: Path, given: dict[str, Weights], unets: dict[str, Any], tmp_path: Path
) -> None:
    folder = loras.save_peft(mirror / "tiny/epsilon", given["epsilon"], tmp_path, **SETTINGS[settings])
    plain = PeftModel.from_pretrained(loras.pipeline(mirror / "tiny/epsilon").unet, folder).merge_and_unload()
    found = fused(folder / "adapter_model.safetensors", unets["epsilon"])
    assert_same(found, plain.state_dict(), unets["epsilon"].state_dict(), len(given["epsilon"]) // 2)


def test_settings_in_the_header_as_diffusers_writes_them(
    mirror: Path, given: dict[str, Weights], unets: dict[str, Any], tmp_path: Path
) -> None:
    plain = loras.pipeline(mirror / "tiny/epsilon")
    settings = {"r": loras.RANK, "lora_alpha": 6, "target_modules": list(loras.ATTENTION), "bias": "none"}
    type(plain).save_lora_weights(tmp_path, given["epsilon"], unet_lora_adapter_metadata=settings)
    plain.load_lora_weights(tmp_path)
    plain.fuse_lora()
    plain.unload_lora_weights()
    found = fused(tmp_path / "pytorch_lora_weights.safetensors", unets["epsilon"])
    assert_same(found, plain.unet.state_dict(), unets["epsilon"].state_dict(), len(given["epsilon"]) // 2)


Change = Callable[[Weights], Weights]
ONE = "unet.down_blocks.1.attentions.0.transformer_blocks.0.attn1.to_q"
FLAT = "lora_unet_down_blocks_1_attentions_0_transformer_blocks_0_attn1_to_q"
TEXT = "text_model.encoder.layers.0.self_attn.q_proj"


def and_more(*names: str, shape: tuple[int, ...] = (2, 2)) -> Change:
    return lambda lora: loras.peft_names(lora) | {name: torch.zeros(shape) for name in names}


def kohya_and(*names: str) -> Change:
    return lambda lora: loras.kohya(lora) | {name: torch.zeros(2, 2) for name in names}


def with_one(value: Callable[[Tensor], Tensor]) -> Change:
    return lambda lora: (
        (named := loras.peft_names(lora)) | {f"{ONE}.lora_A.weight": value(named[f"{ONE}.lora_A.weight"].clone())}
    )


def without(name: str) -> Change:
    return lambda lora: {n: t for n, t in loras.peft_names(lora).items() if n != name}


REFUSED: dict[str, tuple[Change, str]] = {
    "another layer": (and_more("unet.down_blocks.7.to_q.lora_A.weight"), r"does not fit .*1 of 65 .*blocks\.7\.to_q"),
    "no layer fits": (lambda lora: {f"unet.x.{n}": t for n, t in lora.items()}, r"(?s)64 of 64 .*base model that"),
    "kohya, another layer": (kohya_and("lora_unet_down_blocks_9_to_q.lora_down.weight"), "1 of 97 .*blocks_9_to_q"),
    "kohya, both blocks": (kohya_and("lora_unet_input_blocks_1_1_proj_in.lora_down.weight"), "input_blocks_1_1"),
    "a name of no LoRA": (and_more("unet.conv_in.weight"), r"unet\.conv_in\.weight"),
    "a half": (without(f"{ONE}.lora_B.weight"), r"to_q\.lora_A\.weight without its other half"),
    "the other half": (without(f"{ONE}.lora_A.weight"), r"to_q\.lora_B\.weight without its other half"),
    "an alpha alone": (and_more("unet.conv_in.alpha", shape=()), r"conv_in\.alpha without"),
    "shape": (with_one(lambda t: t[:, :-1]), r"to_q\.lora_B.*\[16, 2\] x \[2, 15\] for a weight of \[16, 16\]"),
    "rank": (with_one(lambda t: t[:1]), r"\[16, 2\] x \[1, 16\]"),
    "NaN": (with_one(lambda t: t.fill_(float("nan"))), r"1 of 64 weights are not finite.*to_q\.lora_A"),
    "one infinite number": (with_one(lambda t: t.index_fill_(0, torch.tensor(0), float("inf"))), "not finite"),
    "integers": (with_one(lambda t: t.to(torch.int8)), "not finite numbers"),
    "kohya, NaN as alpha": (lambda lora: loras.kohya(lora, float("nan")), "not finite.*alpha"),
    "kohya, alpha 0": (lambda lora: loras.kohya(lora, 0), "alpha 0"),
    "kohya, alpha below 0": (lambda lora: loras.kohya(lora, -2), "alpha -2"),
    "two of one layer": (and_more(f"{ONE.removeprefix('unet.')}.lora_A.weight"), "two weights for one place"),
    "two adapters": (and_more(f"{ONE}.lora_A.second.weight"), "two weights for one place"),
    "text encoder": (and_more(f"text_encoder.{TEXT}.lora_A.weight"), "holds weights of text encoders: 1 of 65"),
    "second text encoder": (and_more(f"text_encoder_2.{TEXT}.lora_linear_layer.up.weight"), "text encoders"),
    "text encoder alone": (lambda _: {f"base_model.model.{TEXT}.lora_A.weight": torch.zeros(2)}, "text encoders"),
    "kohya, text encoder": (kohya_and(f"lora_te_{TEXT.replace('.', '_')}.lora_down.weight"), "text encoders"),
    "kohya, first of two": (kohya_and(f"lora_te1_{TEXT.replace('.', '_')}.alpha"), "text encoders"),
    "kohya, second of two": (kohya_and(f"lora_te2_{TEXT.replace('.', '_')}.lora_up.weight"), "text encoders"),
    "DDP, text encoder": (and_more(f"module.text_encoder.{TEXT}.lora_A.weight"), "text encoders"),
    "LoHa": (lambda _: {f"{FLAT}.hada_{part}": torch.zeros(2, 2) for part in ("w1_a", "w1_b", "w2_a")}, "a LoHa"),
    "LoKr": (lambda _: {f"{FLAT}.lokr_{part}": torch.zeros(2, 2) for part in ("w1", "w2")}, "a LoKr"),
    "LoKr by PEFT": (lambda _: {f"base_model.model.{ONE}.lokr_w1": torch.zeros(2, 2)}, "a LoKr"),
    "DoRA": (kohya_and(f"{FLAT}.dora_scale"), "a DoRA: 1 of 97"),
    "DoRA by PEFT": (and_more(f"{ONE}.lora_magnitude_vector"), "a DoRA"),
    "LoCon with a core": (kohya_and("lora_unet_conv_in.lora_mid.weight"), "a LoCon with a Tucker core"),
    "OFT": (lambda _: {f"{FLAT}.oft_blocks": torch.zeros(2, 2)}, "an OFT"),
    "BOFT by PEFT": (lambda _: {f"base_model.model.{ONE}.boft_R": torch.zeros(2, 2)}, "an OFT or BOFT"),
    "IA3": (lambda _: {f"{FLAT}.on_input": torch.zeros(2), f"{FLAT}.weight": torch.zeros(2)}, "an IA3"),
    "GLoRA": (lambda _: {f"{FLAT}.a1.weight": torch.zeros(2, 2)}, "a GLoRA"),
    "differences": (kohya_and("lora_unet_conv_in.diff", "lora_unet_conv_in.diff_b"), "differences of whole weights"),
    "biases": (and_more(f"{ONE}.lora_B.bias"), "biases or embeddings"),
    "a transformer": (lambda _: {"transformer.blocks.0.attn.to_q.lora_A.weight": torch.zeros(2, 2)}, "a transformer"),
    "kohya, a transformer": (lambda _: {"lora_transformer_blocks_0.lora_up.weight": torch.zeros(2)}, "a transformer"),
    "textual inversion": (lambda _: {"emb_params": torch.zeros(2, 2)}, "a textual inversion"),
    "checkpoint": (lambda _: {"model.diffusion_model.out.2.bias": torch.zeros(2)}, "a whole checkpoint in one file"),
    "a UNet": (lambda _: {"conv_in.weight": torch.zeros(2), "conv_in.bias": torch.zeros(2)}, "2 of 2 weights have"),
    "nothing": (lambda _: {}, "holds no weights"),
}  # fmt: skip


@pytest.mark.parametrize("case", REFUSED)
def test_what_is_no_whole_lora_of_the_unet_is_refused_by_its_name(
    case: str, given: dict[str, Weights], unets: dict[str, Any], tmp_path: Path
) -> None:
    change, words = REFUSED[case]
    file = loras.save(change(given["epsilon"]), tmp_path / "their.safetensors")
    with pytest.raises(CheckpointError, match=words) as caught:
        read_lora(file, unets["epsilon"], "the base")
    assert str(file) in caught.value.problem


def test_without_weights_of_the_base_it_is_refused_alike(
    mirror: Path, given: dict[str, Weights], tmp_path: Path
) -> None:
    unet = empty_unet(tiny.base(mirror, "epsilon"))
    file = loras.save(loras.peft_names(given["epsilon"]), tmp_path / "fits.safetensors")
    assert len(read_lora(file, unet, "the base")) == len(given["epsilon"]) // 2
    file = loras.save(loras.peft_names(given["xl"]), tmp_path / "of-xl.safetensors")
    with pytest.raises(CheckpointError, match=re.escape("does not fit the UNet of the base")):
        read_lora(file, unet, "the base")


def test_a_cut_file_and_a_file_of_another_kind(
    given: dict[str, Weights], unets: dict[str, Any], tmp_path: Path
) -> None:
    file = loras.save(loras.peft_names(given["epsilon"]), tmp_path / "lora.safetensors")
    for content in (file.read_bytes()[:-10], file.read_bytes()[:100], b"a red circle\n", b""):
        file.write_bytes(content)
        with pytest.raises(CheckpointError, match="cannot be read as a LoRA"):
            read_lora(file, unets["epsilon"], "the base")


@pytest.mark.parametrize(
    ("settings", "words"),
    [
        (None, "adapter_config.json is not there"),
        ({"r": 4, "lora_alpha": 4}, "has rank 2, but its settings say 4"),
        ({"r": 2, "lora_alpha": 2, "use_dora": True}, "use_dora=True is not read"),
        ({"r": 2, "lora_alpha": 2, "init_lora_weights": "pissa_niter_4"}, "init_lora_weights='pissa_niter_4' is not"),
        ({"r": 2, "lora_alpha": 2, "modules_to_save": ["conv_in"]}, "modules_to_save"),
        ({"peft_type": "LOHA", "r": 2, "alpha": 2}, "peft_type='LOHA'"),
        ({"r": 2, "lora_alpha": -1}, "alpha -1"),
        ({"r": 2, "lora_alpha": 2, "alpha_pattern": ["to_q"]}, "no JSON object"),
        ({"r": 2, "lora_alpha": 2, "rank_pattern": {"to_q(": 2}}, "rank_pattern holds"),
        ([2], "no JSON object"),
        ("{", "cannot be read as a LoRA"),
    ],
)
def test_settings_of_peft_that_say_more_or_something_else(
    settings: Any, words: str, given: dict[str, Weights], unets: dict[str, Any], tmp_path: Path
) -> None:
    named = {f"base_model.model.{name}": tensor for name, tensor in given["epsilon"].items()}
    file = loras.save(named, tmp_path / "adapter_model.safetensors")
    if settings is not None:
        text = settings if isinstance(settings, str) else json.dumps(settings)
        (tmp_path / "adapter_config.json").write_text(text)
    with pytest.raises(CheckpointError, match=words):
        read_lora(file, unets["epsilon"], "the base")
