"""Layouts of checkpoints, and what is wrong with some of them; contract.py tries each scorer's files one by one."""

from __future__ import annotations

import hashlib
import json
import re
from pathlib import Path
from typing import Any
from zipfile import ZipFile

import numpy as np
import pytest
import torch
from PIL import Image
from safetensors.torch import load_file

from pipeline_lib.core.errors import CheckpointError, HubError, UnknownNameError
from pipeline_lib.scoring import aesthetic, hpsv2
from pipeline_lib.scoring.checkpoints import github_file
from pipeline_lib.scoring.engine import load_scorers, locate_scorers, score_images
from tests.pipeline_lib.scoring.conftest import write_mirror
from tests.pipeline_lib.scoring.contract import edit

CLIP = "openai/clip-vit-large-patch14/model.safetensors"
HPS = "xswu/HPSv2/HPS_v2.1_compressed.pt"
HEAD = "christophschuhmann/improved-aesthetic-predictor/sac+logos+ava1-l14-linearMSE.pth"
REWARD = "THUDM/ImageReward/ImageReward.pt"


@pytest.fixture
def own_mirror(tmp_path: Path) -> Path:
    return write_mirror(tmp_path / "hub")


@pytest.mark.parametrize("name", ["clip", "clip-h14", "pickscore", "aesthetic"])
def test_clip_models_may_be_pytorch_bin(
    name: str, own_mirror: Path, pictures: list[Image.Image], prompts: list[str]
) -> None:
    """The layout of a mirror that was made before the hub had safetensors, with the position ids of that time."""
    before = score_images(load_scorers([name], str(own_mirror), "cpu"), pictures, prompts)[name]
    for path in own_mirror.rglob("model.safetensors"):
        state = load_file(path)
        state["text_model.embeddings.position_ids"] = torch.arange(16)[None]
        torch.save(state, path.with_name("pytorch_model.bin"))
        path.unlink()
    (located,) = locate_scorers([name], str(own_mirror))
    assert "pytorch_model.bin" in located.files
    assert "model.safetensors" not in located.files
    after = score_images(load_scorers([name], str(own_mirror), "cpu"), pictures, prompts)[name]
    np.testing.assert_array_equal(after, before)
    for path in own_mirror.rglob("pytorch_model.bin"):
        path.write_bytes(path.read_bytes()[:-1000])
    with pytest.raises(CheckpointError, match=r"pytorch_model\.bin"):
        load_scorers([name], str(own_mirror), "cpu")
    for path in own_mirror.rglob("pytorch_model.bin"):
        path.unlink()
    with pytest.raises(HubError, match=r"model\.safetensors and pytorch_model\.bin"):
        locate_scorers([name], str(own_mirror))


@pytest.mark.parametrize(("name", "file"), [("hpsv2", HPS), ("aesthetic", HEAD), ("imagereward", REWARD)])
def test_a_flipped_bit_is_found(name: str, file: str, own_mirror: Path) -> None:
    """torch reads such a file without complaint."""
    path = own_mirror / file
    content = bytearray(path.read_bytes())
    tensors = [part for part in ZipFile(path).infolist() if "/data/" in part.filename]
    largest = max(tensors, key=lambda part: part.file_size)
    content[largest.header_offset + 200] ^= 1
    path.write_bytes(content)
    torch.load(path, weights_only=True)
    with pytest.raises(CheckpointError, match=re.escape(largest.filename)):
        load_scorers([name], str(own_mirror), "cpu")


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


def test_a_cached_file_is_taken_only_if_it_is_the_official_one(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(torch.hub, "get_dir", lambda: str(tmp_path))
    downloads: list[str] = []

    def download(url: str, target: str, hash_prefix: str, progress: bool) -> None:
        downloads.append(url)
        Path(target).write_bytes(b"official")

    monkeypatch.setattr(torch.hub, "download_url_to_file", download)
    file, sha = "head+.pth", hashlib.sha256(b"official").hexdigest()
    path = github_file("me/repo", "abc", file, sha, "hub")
    assert downloads == ["https://github.com/me/repo/raw/abc/head%2B.pth"]
    assert github_file("me/repo", "abc", file, sha, "hub") == path
    assert len(downloads) == 1
    path.write_bytes(b"offic")
    github_file("me/repo", "abc", file, sha, "hub")
    assert path.read_bytes() == b"official"
    assert len(downloads) == 2


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
