"""How close the built world is to reality: pair accuracy of people and scorers, agreement, head-room."""

from __future__ import annotations

import itertools
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from pathlib import Path

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor
from transformers import BertTokenizer, CLIPModel, CLIPTokenizer

from pipeline_lib.shapes import hub_files as files
from pipeline_lib.shapes.annotators import Crowd, judge
from pipeline_lib.shapes.blip import Head, TinyImageReward
from pipeline_lib.shapes.build.optimise import to_tensor
from pipeline_lib.shapes.build.pretrain_aesthetic import image_embeddings
from pipeline_lib.shapes.build.pretrain_clip import PROJECTION, normalised, token_table
from pipeline_lib.shapes.build.pretrain_imagereward import bert_tokens, reward_scores
from pipeline_lib.shapes.build.pretrain_preference import PairScores, clip_scores, new_hps, open_clip_scores
from pipeline_lib.shapes.renderer import Floats
from pipeline_lib.shapes.truth import utility

Scores = dict[str, Floats]
Images = NDArray[np.uint8]

TARGETS = {"pickscore": 0.80, "hpsv2": 0.69, "imagereward": 0.61, "clip": 0.61, "aesthetic": 0.55}
"""Scorer -> pair accuracy against people on Pick-a-Pic (published measurements, ties left out)."""


@dataclass(frozen=True)
class Judged:
    """Comparisons: rows of two images, the verdict (1, 0, 0.5), and who judged (index into the crowd)."""

    left: NDArray[np.int64]
    right: NDArray[np.int64]
    verdict: Floats
    person: NDArray[np.int64]


def _state(path: Path) -> dict[str, Tensor]:
    return {name: tensor.float() for name, tensor in torch.load(path, weights_only=True).items()}


def scorers(out: Path) -> dict[str, Callable[[Images, Sequence[str]], Floats]]:
    """The five shipped reward models as functions of uint8 images and captions."""
    hub = out / "hub"
    tokenizer = CLIPTokenizer.from_pretrained(hub / files.CLIP)
    bert = BertTokenizer.from_pretrained(hub / files.BERT)
    clip = CLIPModel.from_pretrained(hub / files.CLIP).float().eval()
    pick = CLIPModel.from_pretrained(hub / files.PICKSCORE).float().eval()
    hps = new_hps().eval()
    loaded = torch.load(hub / files.HPS / files.HPS_FILE, weights_only=True)["state_dict"]
    hps.load_state_dict({name: tensor.float() for name, tensor in loaded.items()})
    head = Head(PROJECTION).eval()
    head.load_state_dict({f"layers.{k.removeprefix('layers.')}": v for k, v in _state(aesthetic_path(out)).items()})
    reward = TinyImageReward().eval()
    reward.load_state_dict(_state(hub / files.IMAGEREWARD / files.IMAGEREWARD_FILE))

    def clip_tokens(captions: Sequence[str]) -> Tensor:
        table = token_table(tokenizer, tuple(dict.fromkeys(captions)))
        return torch.stack([table[caption] for caption in captions])

    def with_text(scores: PairScores, tokens: Callable[[Sequence[str]], Tensor]) -> Callable[..., Floats]:
        def score(images: Images, captions: Sequence[str]) -> Floats:
            with torch.no_grad():
                parts = [
                    scores(
                        normalised(to_tensor(images[i : i + 256].astype(np.float32) / 255)),
                        tokens(captions[i : i + 256]),
                    )
                    for i in range(0, len(images), 256)
                ]
            return torch.cat(parts).numpy()

        return score

    def aesthetic(images: Images, captions: Sequence[str]) -> Floats:
        with torch.no_grad():
            return head(image_embeddings(clip, images)).numpy()

    return {
        "clip": with_text(clip_scores(clip), clip_tokens),
        "pickscore": with_text(clip_scores(pick), clip_tokens),
        "hpsv2": with_text(open_clip_scores(hps), clip_tokens),
        "aesthetic": aesthetic,
        "imagereward": with_text(reward_scores(reward), lambda captions: bert_tokens(bert, captions)),
    }


def aesthetic_path(out: Path) -> Path:
    return out / "hub" / files.AESTHETIC / files.AESTHETIC_FILE


def compare_within(parts: Floats, groups: NDArray[np.int64], people: Crowd, per_group: int, seed: int) -> Judged:
    """`per_group` random comparisons within each group of images, by random people."""
    rng = np.random.default_rng(seed)
    left, right = [], []
    for group in np.unique(groups):
        rows = np.flatnonzero(groups == group)
        for _ in range(per_group):
            first, second = rng.choice(rows, 2, replace=False)
            left.append(first)
            right.append(second)
    person = rng.integers(0, len(people.user_ids), len(left))
    one, two = np.array(left), np.array(right)
    return Judged(one, two, judge(parts[one], parts[two], people.weights[person], rng), person)


def accuracy(prefers_left: NDArray[np.floating], wanted: NDArray[np.floating]) -> float:
    """Share of decided comparisons (wanted != 0.5) on which the sign of a margin agrees; a zero margin counts half."""
    decided = wanted != 0.5
    right = np.where(prefers_left > 0, wanted == 1, np.where(prefers_left < 0, wanted == 0, 0.5))
    return float(right[decided].mean())


def report(scores: Scores, parts: Floats, judged: Judged, people: Crowd) -> dict[str, object]:
    """Every figure of the calibration on one set of comparisons."""
    margins = {name: values[judged.left] - values[judged.right] for name, values in scores.items()}
    truth = utility(parts)
    true_margin = truth[judged.left] - truth[judged.right]
    true_verdict = (true_margin > 0).astype(np.float32)
    votes = sum((np.sign(margin) for margin in margins.values()), np.zeros(len(judged.left)))
    decided = judged.verdict != 0.5
    minority = people.is_minority[judged.person]
    human = np.where(decided, judged.verdict * 2 - 1, 0.0)
    # Two people asked about the same pair: how often they agree, ties left out.
    rng = np.random.default_rng(9)
    others = rng.permutation(judged.person)
    again = judge(parts[judged.left], parts[judged.right], people.weights[others], rng)
    both = decided & (again != 0.5)
    return {
        "comparisons": len(judged.left),
        "ties": float((~decided).mean()),
        "accuracy_against_people": {name: accuracy(margin, judged.verdict) for name, margin in margins.items()},
        "accuracy_against_truth": {name: accuracy(margin, true_verdict) for name, margin in margins.items()},
        "people_against_truth": accuracy(human[decided], true_verdict[decided]),
        "majority_people_against_truth": accuracy(human[decided & ~minority], true_verdict[decided & ~minority]),
        "minority_people_against_truth": accuracy(human[decided & minority], true_verdict[decided & minority]),
        "two_people_agree": float((again[both] == judged.verdict[both]).mean()),
        "truth_against_people": accuracy(true_margin, judged.verdict),
        "vote_of_five_against_truth": accuracy(votes, true_verdict),
        "vote_of_five_and_person_against_truth": accuracy((votes + human)[decided], true_verdict[decided]),
        "agreement": {
            f"{one}/{two}": float((np.sign(margins[one]) == np.sign(margins[two])).mean())
            for one, two in itertools.combinations(margins, 2)
        },
    }
