"""What may stand side by side, told from the models' files."""

import json
import shutil
from collections.abc import Callable
from dataclasses import replace
from pathlib import Path

import pytest

from pipeline_lib.core.config import BaseModel
from pipeline_lib.core.errors import ConfigError
from pipeline_lib.core.store import Dataset
from pipeline_lib.evaluation.comparable import check_comparable, latents
from tests.pipeline_lib.evaluation.conftest import unet

Trained = Callable[[str, int], Dataset]


def test_different_models_of_one_size_are_comparable(base: BaseModel, trained: Trained, tmp_path: Path) -> None:
    assert latents(base) == (4, 16, 2)
    unet(5).save_pretrained(shutil.copytree(base.repo, tmp_path / "whole") / "unet")
    bases = {name: base for name in ("base", "one", "two")} | {"whole": replace(base, repo=str(tmp_path / "whole"))}
    store = str(tmp_path / "store")
    check_comparable({"base": None, "one": trained(store, 1), "two": trained(store, 2), "whole": None}, bases)


def test_what_cannot_share_prompts_and_settings_is_refused(base: BaseModel, trained: Trained, tmp_path: Path) -> None:
    one = trained(str(tmp_path / "store"), 1)
    with pytest.raises(ConfigError, match="two or more models; got one"):
        check_comparable({"one": one}, {"one": base})
    with pytest.raises(ConfigError, match="one and again are the same model"):
        check_comparable({"one": one, "again": one}, {"one": base, "again": base})

    copy = replace(base, repo=str(shutil.copytree(base.repo, tmp_path / "copy")))
    with pytest.raises(ConfigError, match="base and copy are the same model"):
        check_comparable({"base": None, "copy": None}, {"base": base, "copy": copy})
    with pytest.raises(ConfigError, match=r"different families.*base is sd, copy is sdxl"):
        check_comparable({"base": None, "copy": None}, {"base": base, "copy": replace(copy, family="sdxl")})

    file = tmp_path / "copy" / "unet" / "config.json"
    file.write_text(json.dumps(json.loads(file.read_text()) | {"sample_size": 24}))
    with pytest.raises(ConfigError, match=r"base 32 px from 4 x 16 x 16, larger 48 px from 4 x 24 x 24"):
        check_comparable({"base": None, "larger": None}, {"base": base, "larger": replace(copy, repo=f"{copy.repo}/")})

    index = tmp_path / "copy" / "model_index.json"
    index.write_text(index.read_text().replace("StableDiffusionPipeline", "StableDiffusionXLPipeline"))
    with pytest.raises(ConfigError, match=r"(?s)xl: .* is a StableDiffusionXLPipeline.*preset of that family"):
        check_comparable({"base": None, "xl": None}, {"base": base, "xl": replace(copy, repo=f"{copy.repo}/.")})
