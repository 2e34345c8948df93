"""Checkpoints that are not what they should be: each is a typed error that says which keys or files."""

from __future__ import annotations

import json
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
import torch
from PIL import Image
from safetensors.torch import load_file, save_file

from pipeline_lib.errors import CheckpointError, HubError, UnknownNameError
from pipeline_lib.scoring import aesthetic, hpsv2
from pipeline_lib.scoring.engine import load_scorers, locate_scorers, score_images
from tests.pipeline_lib.scoring.conftest import write_mirror

Edit = Callable[[dict[str, torch.Tensor]], Any]
CLIP = "openai/clip-vit-large-patch14/model.safetensors"
PICK = "yuvalkirstain/PickScore_v1/model.safetensors"
HPS = "xswu/HPSv2/HPS_v2.1_compressed.pt"
HEAD = "christophschuhmann/improved-aesthetic-predictor/sac+logos+ava1-l14-linearMSE.pth"
REWARD = "THUDM/ImageReward/ImageReward.pt"


@pytest.fixture
def own_mirror(tmp_path: Path) -> Path:
    return write_mirror(tmp_path / "hub")


def edit(path: Path, change: Edit) -> None:
    """Rewrite a checkpoint in place."""
    if path.suffix == ".safetensors":
        state = load_file(path)
        change(state)
        save_file(state, path, metadata={"format": "pt"})
        return
    content = torch.load(path, weights_only=True)
    change(content.get("state_dict", content))
    torch.save(content, path)


@pytest.mark.parametrize(
    ("name", "file", "key"),
    [
        ("clip", CLIP, "visual_projection.weight"),
        ("pickscore", PICK, "text_model.encoder.layers.1.mlp.fc2.bias"),
        ("hpsv2", HPS, "visual.transformer.resblocks.1.ln_2.weight"),
        ("aesthetic", HEAD, "layers.4.bias"),
        ("imagereward", REWARD, "blip.text_encoder.encoder.layer.0.crossattention.self.key.weight"),
        ("imagereward", REWARD, "blip.visual_encoder.patch_embed.proj.weight"),
        ("imagereward", REWARD, "mlp.layers.7.weight"),
    ],
)
def test_missing_unexpected_and_misshapen_keys_are_named(name: str, file: str, key: str, own_mirror: Path) -> None:
    path = own_mirror / file
    original = path.read_bytes()
    edit(path, lambda state: state.pop(key))
    with pytest.raises(CheckpointError, match="1 missing") as missing:
        load_scorers([name], str(own_mirror), "cpu")
    assert key.removeprefix("blip.").removeprefix("mlp.") in str(missing.value)
    assert path.name in str(missing.value)

    path.write_bytes(original)
    edit(path, lambda state: state.update({"visual.surprise": torch.zeros(1)}))
    with pytest.raises(CheckpointError, match=r"1 unexpected: visual\.surprise"):
        load_scorers([name], str(own_mirror), "cpu")

    path.write_bytes(original)
    edit(path, lambda state: state.update({key: torch.zeros(3, 5, 7)}))
    with pytest.raises(CheckpointError, match="misshapen"):
        load_scorers([name], str(own_mirror), "cpu")


@pytest.mark.parametrize("key", ["text_model.embeddings.position_ids", "vision_model.embeddings.position_ids"])
def test_position_ids_of_old_exports_are_harmless(key: str, own_mirror: Path, pictures: list[Image.Image]) -> None:
    before = score_images(load_scorers(["clip"], str(own_mirror), "cpu"), pictures[:1], ["a"])
    edit(own_mirror / CLIP, lambda state: state.update({key: torch.arange(16)[None]}))
    after = score_images(load_scorers(["clip"], str(own_mirror), "cpu"), pictures[:1], ["a"])
    assert before == after


@pytest.mark.parametrize(
    ("name", "file"), [("clip", CLIP), ("hpsv2", HPS), ("aesthetic", HEAD), ("imagereward", REWARD)]
)
def test_truncated_file(name: str, file: str, own_mirror: Path) -> None:
    path = own_mirror / file
    path.write_bytes(path.read_bytes()[:1000])
    with pytest.raises(CheckpointError, match=path.name.replace("+", r"\+")):
        load_scorers([name], str(own_mirror), "cpu")


def test_pickles_are_not_executed(own_mirror: Path) -> None:
    torch.save({"state_dict": Path("/")}, own_mirror / HPS)
    with pytest.raises(CheckpointError, match="plain tensors"):
        load_scorers(["hpsv2"], str(own_mirror), "cpu")


def test_hps_without_state_dict(own_mirror: Path) -> None:
    torch.save({"model": {}}, own_mirror / HPS)
    with pytest.raises(CheckpointError, match="no entry `state_dict`"):
        load_scorers(["hpsv2"], str(own_mirror), "cpu")


def test_head_of_another_tower(own_mirror: Path) -> None:
    edit(own_mirror / HEAD, lambda state: state.update({"layers.0.weight": torch.zeros(32, 768)}))
    with pytest.raises(CheckpointError, match="768 of 24 features"):
        load_scorers(["aesthetic"], str(own_mirror), "cpu")


def test_another_preprocessing_recipe_is_refused(own_mirror: Path) -> None:
    path = own_mirror / "openai/clip-vit-large-patch14/preprocessor_config.json"
    path.write_text(json.dumps({**json.loads(path.read_text()), "resample": 2}))
    with pytest.raises(CheckpointError, match="bicubic"):
        load_scorers(["clip"], str(own_mirror), "cpu")


def test_missing_files_and_unknown_names(own_mirror: Path) -> None:
    (own_mirror / REWARD).unlink()
    with pytest.raises(HubError, match=r"lacks ImageReward\.pt"):
        locate_scorers(["imagereward"], str(own_mirror))
    (own_mirror / HEAD).unlink()
    with pytest.raises(HubError, match="linearMSE"):
        locate_scorers(["aesthetic"], str(own_mirror))
    with pytest.raises(HubError, match="has no folder"):
        locate_scorers(["pickscore"], str(own_mirror / "elsewhere"))
    with pytest.raises(UnknownNameError, match="hpsv2"):
        locate_scorers(["hps_v2"], str(own_mirror))


def test_hub_without_network_is_a_clear_error(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(torch.hub, "get_dir", lambda: str(tmp_path))

    def no_network(*args: object, **kwargs: object) -> None:
        raise OSError("Network is unreachable")

    monkeypatch.setattr(torch.hub, "download_url_to_file", no_network)
    with pytest.raises(HubError, match=r"fe88a163.*linearMSE\.pth") as error:
        aesthetic.locate("hub")
    assert "mirror" in error.value.remedy


def test_official_architecture_without_a_config_file(tmp_path: Path) -> None:
    config = hpsv2.model_config(tmp_path)
    assert config["embed_dim"] == 1024
    assert config["vision_cfg"] == {"image_size": 224, "layers": 32, "width": 1280, "head_width": 80, "patch_size": 14}


def test_identity_follows_the_bytes(own_mirror: Path) -> None:
    def identities() -> dict[str, dict[str, Any]]:
        return {item.name: item.identity() for item in locate_scorers(["clip", "aesthetic", "hpsv2"], str(own_mirror))}

    before = identities()
    assert before == identities()
    assert {name: who["column"] for name, who in before.items()} == {
        "clip": "clip_l14_openai",
        "aesthetic": "aesthetic",
        "hpsv2": "hpsv2",
    }
    edit(own_mirror / CLIP, lambda state: state["logit_scale"].add_(1))
    after = identities()
    assert after["hpsv2"] == before["hpsv2"]
    assert after["clip"] != before["clip"]
    assert after["aesthetic"] != before["aesthetic"], "it sees through the same tower"
