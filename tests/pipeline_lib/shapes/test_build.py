from __future__ import annotations

from pathlib import Path

import pytest
from safetensors import safe_open

from pipeline_lib.shapes import HUB


def layout(hub: Path) -> dict[str, set[str]]:
    """File -> its tensors' names, or its lines where it belongs to a base's text side; otherwise only the name."""
    found: dict[str, set[str]] = {}
    for path in filter(Path.is_file, hub.rglob("*")):
        name = path.relative_to(hub).as_posix()
        found[name] = set()
        if path.name == "model.safetensors":
            with safe_open(path, "pt") as weights:
                found[name] = set(weights.keys())
        elif name.startswith("shapes/") and path.parent.name.startswith(("base", "text_encoder", "tokenizer")):
            found[name] = set(path.read_text(encoding="utf-8").splitlines())
    return found


def test_a_nearly_untrained_build_writes_everything_and_a_second_one_nothing(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    from pipeline_lib.shapes.build import components, pretrain_unet
    from pipeline_lib.shapes.build.components import Build
    from pipeline_lib.shapes.build.everything import COMPONENTS, load_record, run
    from pipeline_lib.shapes.build.preferences import pair_captions
    from pipeline_lib.shapes.grammar import split_captions

    # Few captions to draw for the base model, and fewer to sample pictures of.
    monkeypatch.setattr(pretrain_unet, "split_captions", lambda split: split_captions(split)[:64])
    monkeypatch.setattr(components, "pair_captions", lambda: pair_captions()[:4])
    build = Build(tmp_path / "out", tmp_path / "work", steps_scale=0.0)
    wanted = [name for name in COMPONENTS if name != "calibration"]
    run(build, only=wanted)
    assert sorted(load_record(build.out)) == sorted(wanted)
    before = {path: path.stat().st_mtime_ns for path in build.out.rglob("*") if path.is_file()}
    names = {path.relative_to(build.out).as_posix() for path in before}
    assert {
        "hub/THUDM/ImageReward/ImageReward.pt",
        "hub/THUDM/ImageReward/med_config.json",
        "hub/christophschuhmann/improved-aesthetic-predictor/sac+logos+ava1-l14-linearMSE.pth",
        "hub/openai/clip-vit-large-patch14/model.safetensors",
        "hub/yuvalkirstain/PickScore_v1/model.safetensors",
        "hub/xswu/HPSv2/HPS_v2.1_compressed.pt",
        "hub/shapes/base/unet/diffusion_pytorch_model.safetensors",
        "hub/shapes/base-xl/text_encoder_2/model.safetensors",
        "heldout/test-00000-of-00001.parquet",
        "heldout_truth.parquet",
        "truth.parquet",
        "users.parquet",
    } <= names
    assert sum(name.startswith("pairs/") for name in names) == 4
    assert layout(build.out / "hub") == layout(HUB), "the shipped files are what a build writes"
    (build.out / "build.json").write_text(
        (build.out / "build.json").read_text(encoding="utf-8").rstrip()[:-1] + ', "calibration": {}}',
        encoding="utf-8",
    )
    run(build)
    after = {path: path.stat().st_mtime_ns for path in before}
    assert {path.name for path in before if after[path] != before[path]} == {"build.json"}


def test_unknown_components_are_named(tmp_path: Path) -> None:
    from pipeline_lib.shapes.build.components import Build
    from pipeline_lib.shapes.build.everything import run

    with pytest.raises(ValueError, match="unknown components nonsense; known: tokenizers"):
        run(Build(tmp_path, tmp_path), only=["nonsense"])
