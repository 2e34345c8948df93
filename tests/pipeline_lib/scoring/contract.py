"""What every scorer promises, as tests. A new scorer joins in a test file of its own:

    class TestMine(ScorerContract):
        name = "mine"                                   # in SCORERS
        weights = ("me/my-scorer/model.safetensors",)   # its files of tensors, as they lie in a mirror

        @staticmethod
        def write(mirror: Path) -> None: ...            # a tiny random checkpoint, in the official layout

The mirror holds the tiny checkpoints of the five scorers already (conftest.py), for scorers that build on one of them.
"""

from __future__ import annotations

import shutil
from collections.abc import Callable, Sequence
from itertools import cycle
from pathlib import Path
from typing import Any, ClassVar

import numpy as np
import pytest
import torch
from PIL import Image
from safetensors.torch import load_file, save_file

from pipeline_lib.core.digest import canonical_json
from pipeline_lib.core.errors import CheckpointError, HubError
from pipeline_lib.scoring.base import Located, Scorer
from pipeline_lib.scoring.engine import load_scorers, locate_scorers, score_images
from pipeline_lib.scoring.scorers import SCORERS

State = dict[str, torch.Tensor]


def edit(path: Path, change: Callable[[State], Any]) -> None:
    """Rewrite a checkpoint in place, in its own format."""
    if path.suffix == ".safetensors":
        state = load_file(path)
        change(state)
        save_file(state, path, metadata={"format": "pt"})
        return
    content = torch.load(path, weights_only=True)
    change(content.get("state_dict", content))
    torch.save(content, path)


class ScorerContract:
    """Subclass it with a name that starts with `Test`."""

    name: ClassVar[str]
    weights: ClassVar[Sequence[str]]
    harmless: ClassVar[Sequence[str]] = ()
    """Keys that official files of tensors may have and that no score depends on."""
    optional: ClassVar[Sequence[str]] = ()
    """Names of files that the official repository may lack."""

    @staticmethod
    def write(mirror: Path) -> None:
        """Put a tiny random checkpoint into the mirror; the five scorers' are there."""

    @pytest.fixture(scope="class")
    @classmethod
    def own(cls, mirror: Path, tmp_path_factory: pytest.TempPathFactory) -> Path:
        """A mirror with this scorer's files. Do not change it."""
        folder = tmp_path_factory.mktemp("contract") / "hub"
        shutil.copytree(mirror, folder)
        cls.write(folder)
        return folder

    @pytest.fixture
    def damaged(self, own: Path, tmp_path: Path) -> Path:
        """A copy to change."""
        return Path(shutil.copytree(own, tmp_path / "hub"))

    @pytest.fixture(scope="class")
    @classmethod
    def scorer(cls, own: Path) -> Scorer:
        return cls.load(own)

    @classmethod
    def locate(cls, mirror: Path) -> Located:
        (located,) = locate_scorers([cls.name], str(mirror))
        return located

    @classmethod
    def load(cls, mirror: Path) -> Scorer:
        (scorer,) = load_scorers([cls.name], str(mirror), "cpu")
        return scorer

    def assert_refused(self, mirror: Path, *words: str) -> None:
        """Loading fails with an error that has all these words and says what to do."""
        with pytest.raises((CheckpointError, HubError)) as error:
            self.load(mirror)
        missing = [word for word in words if word not in error.value.problem]
        assert not missing, f"the message does not name {missing}: {error.value.problem}"
        assert error.value.remedy.endswith(".")

    def test_it_says_what_decides_its_scores(self, own: Path, scorer: Scorer) -> None:
        located = self.locate(own)
        assert self.name in SCORERS.names()
        assert located.name == scorer.name == self.name
        assert located.needs_prompt == scorer.needs_prompt
        assert located.preprocess == scorer.tower.preprocess.name
        assert all(path.is_file() for path in located.files.values())
        assert {own / file for file in self.weights} <= set(located.files.values())
        canonical_json(located.identity())
        assert located.identity() == self.locate(own).identity()

    def test_scores_are_finite_float32_in_order(
        self, scorer: Scorer, pictures: list[Image.Image], prompts: list[str]
    ) -> None:
        values = score_images([scorer], pictures, prompts)[self.name]
        assert values.dtype == np.float32
        assert values.shape == (len(pictures),)
        assert np.isfinite(values).all()
        assert np.ptp(values) > 1e-3, "random weights must tell these images apart"
        back = score_images([scorer], pictures[::-1], prompts[::-1])[self.name]
        np.testing.assert_allclose(back[::-1], values, atol=1e-5)

    def test_score_does_not_depend_on_the_batch(
        self, scorer: Scorer, pictures: list[Image.Image], prompts: list[str]
    ) -> None:
        together = score_images([scorer], pictures * 8, prompts * 8)[self.name].reshape(8, -1)
        alone = [score_images([scorer], [i], [p])[self.name][0] for i, p in zip(pictures, prompts, strict=True)]
        np.testing.assert_allclose(together, np.tile(alone, (8, 1)), rtol=1e-5, atol=1e-5)

    def test_score_does_not_depend_on_the_other_scorers(
        self, own: Path, scorer: Scorer, pictures: list[Image.Image], prompts: list[str]
    ) -> None:
        names = list(dict.fromkeys(["clip", "pickscore", "hpsv2", "aesthetic", "imagereward", self.name]))
        together = score_images(load_scorers(names, str(own), "cpu"), pictures, prompts)[self.name]
        np.testing.assert_array_equal(together, score_images([scorer], pictures, prompts)[self.name])

    def test_prompt_matters_exactly_where_it_should(self, scorer: Scorer, pictures: list[Image.Image]) -> None:
        one = score_images([scorer], pictures, ["a red circle"] * len(pictures))[self.name]
        other = score_images([scorer], pictures, ["blue squares"] * len(pictures))[self.name]
        if scorer.needs_prompt:
            assert np.abs(one - other).min() > 0
        else:
            np.testing.assert_array_equal(one, other)

    @pytest.mark.parametrize("mode", ["RGBA", "LA", "L", "P", "CMYK", "1"])
    def test_any_mode_scores_as_its_rgb_version(self, mode: str, scorer: Scorer) -> None:
        rng = np.random.default_rng(0)
        image = Image.fromarray(rng.integers(0, 256, (40, 36, 3), dtype=np.uint8)).convert(mode)
        values = score_images([scorer], [image, image.convert("RGB")], ["a", "a"])[self.name]
        assert np.isfinite(values).all()
        assert values[0] == pytest.approx(values[1], abs=1e-5)

    @pytest.mark.parametrize("size", [(1, 1), (1, 4096), (4096, 1)], ids=str)
    def test_extreme_shapes_have_scores(self, size: tuple[int, int], scorer: Scorer) -> None:
        assert np.isfinite(score_images([scorer], [Image.new("RGB", size, (9, 99, 200))], ["a"])[self.name]).all()

    def test_no_images_no_scores(self, scorer: Scorer) -> None:
        assert score_images([scorer], [], [])[self.name].shape == (0,)

    def test_loading_again_gives_the_same_bytes(
        self, own: Path, scorer: Scorer, pictures: list[Image.Image], prompts: list[str]
    ) -> None:
        before = score_images([scorer], pictures, prompts)[self.name]
        assert score_images([self.load(own)], pictures, prompts)[self.name].tobytes() == before.tobytes()

    def test_other_weights_are_another_scorer(
        self, damaged: Path, scorer: Scorer, pictures: list[Image.Image], prompts: list[str]
    ) -> None:
        values = score_images([scorer], pictures, prompts)[self.name]
        for file in self.weights:
            before = self.locate(damaged).identity()
            edit(damaged / file, lambda state: [tensor.mul_(1.5) for tensor in floats(state)])
            after = self.locate(damaged).identity()
            assert after != before
            assert {**after, "weights": ""} == {**before, "weights": ""}
        changed = score_images([self.load(damaged)], pictures, prompts)[self.name]
        assert np.abs(changed - values).max() > 0

    def test_missing_unexpected_renamed_and_misshapen_keys_are_named(self, damaged: Path) -> None:
        for file in self.weights:
            path = damaged / file
            content = path.read_bytes()
            for key in self.sample(path):
                for change, words in (
                    (lambda state, key=key: state.pop(key), ["1 missing", key]),
                    (lambda state, key=key: state.update({key: torch.zeros(3, 5, 7)}), ["misshapen", key]),
                    (
                        lambda state, key=key: state.update({f"{key}_": state.pop(key)}),
                        ["1 missing", f"1 unexpected: {key}_", key],
                    ),
                    (lambda state: state.update({"a.surprise": torch.zeros(1)}), ["1 unexpected: a.surprise"]),
                ):
                    edit(path, change)
                    self.assert_refused(damaged, path.name, *words)
                    path.write_bytes(content)

    def test_harmless_keys_change_nothing(
        self, damaged: Path, scorer: Scorer, pictures: list[Image.Image], prompts: list[str]
    ) -> None:
        before = score_images([scorer], pictures, prompts)[self.name]
        for key in self.harmless:
            for change in (
                lambda state, key=key: state.update({key: torch.zeros(3)}),
                lambda state, key=key: state.pop(key),
            ):
                edit(damaged / self.weights[0], change)
                np.testing.assert_array_equal(score_images([self.load(damaged)], pictures, prompts)[self.name], before)

    def test_weights_that_are_no_numbers_are_refused(self, damaged: Path) -> None:
        for file in self.weights:
            path = damaged / file
            content = path.read_bytes()
            for key, value in zip(cycle(self.sample(path)), (float("nan"), float("inf"), -float("inf")), strict=False):
                edit(path, lambda state, key=key, value=value: state[key].view(-1)[-1:].fill_(value))
                self.assert_refused(damaged, path.name, key, "NaN or infinity")
                path.write_bytes(content)

    def test_weights_saved_compiled_or_distributed_are_the_same(
        self, damaged: Path, scorer: Scorer, pictures: list[Image.Image], prompts: list[str]
    ) -> None:
        before = score_images([scorer], pictures, prompts)[self.name]
        for prefix in ("_orig_mod.", "module."):
            for file in self.weights:
                edit(
                    damaged / file, lambda state, p=prefix: [state.update({p + k: state.pop(k)}) for k in list(state)]
                )
            np.testing.assert_array_equal(score_images([self.load(damaged)], pictures, prompts)[self.name], before)

    def test_damaged_weights_are_refused(self, damaged: Path) -> None:
        for file in self.weights:
            path = damaged / file
            content = path.read_bytes()
            for part in (
                b"",
                content[:1000],
                content[: len(content) // 2],
                content[:-1],
                b"\0" * 2000,
                b"<html>Not found",
            ):
                path.write_bytes(part)
                self.assert_refused(damaged, path.name)
            path.write_bytes(content)

    def test_a_file_of_other_things_is_refused(self, damaged: Path) -> None:
        for file in self.weights:
            path = damaged / file
            content = path.read_bytes()
            for other in ([torch.zeros(3)], {"state_dict": {"a": "b"}}, {"state_dict": Path("/")}):
                torch.save(other, path)
                self.assert_refused(damaged, path.name)
            path.write_bytes(content)

    def test_every_other_file_is_read_with_care(self, damaged: Path) -> None:
        """Settings and vocabularies: absent, cut off, or something else."""
        for path in self.locate(damaged).files.values():
            if str(path.relative_to(damaged)) in self.weights:
                continue
            content = path.read_bytes()
            for part in (content[: len(content) // 2], b"<html>Not found"):
                path.write_bytes(part)
                self.assert_refused(damaged, path.parent.name)
            path.unlink()
            if path.name not in self.optional:
                self.assert_refused(damaged, path.name)
            path.write_bytes(content)

    def sample(self, path: Path) -> list[str]:
        """Some keys of a file of tensors."""
        keys: list[str] = []
        edit(path, lambda state: keys.extend(key for key in sorted(state) if key not in self.harmless))
        return sorted({keys[0], keys[len(keys) // 2], keys[-1]})


def floats(state: State) -> list[torch.Tensor]:
    """The tensors that can be scaled."""
    return [tensor for tensor in state.values() if tensor.is_floating_point()]
