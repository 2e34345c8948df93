from __future__ import annotations

from pathlib import Path

import pytest


def test_a_nearly_untrained_build_writes_everything_and_a_second_one_nothing(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    from pipeline_lib.shapes import components, pretrain_unet
    from pipeline_lib.shapes.build import COMPONENTS, load_record, run
    from pipeline_lib.shapes.components import Build
    from pipeline_lib.shapes.grammar import split_captions
    from pipeline_lib.shapes.preferences import pair_captions

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
    (build.out / "build.json").write_text(
        (build.out / "build.json").read_text(encoding="utf-8").rstrip()[:-1] + ', "calibration": {}}',
        encoding="utf-8",
    )
    run(build)
    after = {path: path.stat().st_mtime_ns for path in before}
    assert {path.name for path in before if after[path] != before[path]} == {"build.json"}


def test_unknown_components_are_named(tmp_path: Path) -> None:
    from pipeline_lib.shapes.build import run
    from pipeline_lib.shapes.components import Build

    with pytest.raises(ValueError, match="unknown components nonsense; known: tokenizers"):
        run(Build(tmp_path, tmp_path), only=["nonsense"])
