"""The steps of the build, each writing finished files: weights in the official formats, then pairs and truth."""

from __future__ import annotations

import copy
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import torch
from diffusers import AutoencoderKL, StableDiffusionPipeline, StableDiffusionXLPipeline
from safetensors.torch import save_file
from transformers import BertTokenizer, CLIPModel, CLIPTokenizer

from pipeline_lib.shapes import hub_files as files
from pipeline_lib.shapes.blip import MED_CONFIG
from pipeline_lib.shapes.build.pairs import Gallery
from pipeline_lib.shapes.build.preference_data import IMAGES_PER_PROMPT, make_gallery
from pipeline_lib.shapes.build.preferences import Pool, pair_captions, reward_captions, web_pool
from pipeline_lib.shapes.build.pretrain_aesthetic import train_aesthetic
from pipeline_lib.shapes.build.pretrain_clip import retrieval_accuracy, train_clip
from pipeline_lib.shapes.build.pretrain_imagereward import train_imagereward
from pipeline_lib.shapes.build.pretrain_preference import Recipe, hps_model_config, train_hps, train_pickscore
from pipeline_lib.shapes.build.pretrain_unet import (
    POOL_PER_CAPTION,
    new_scheduler,
    new_unet,
    text_encoder_of,
    train_unet,
)
from pipeline_lib.shapes.build.pretrain_vae import clean_psnr, train_vae
from pipeline_lib.shapes.build.pretrain_xl import train_unet_xl
from pipeline_lib.shapes.grammar import split_captions
from pipeline_lib.shapes.hub_files import (
    as_official,
    forget_paths,
    half,
    hub_folder,
    load_in_fp32,
    write_json,
    write_processor,
)
from pipeline_lib.shapes.tokenizers import write_bert_tokenizer, write_clip_tokenizer, write_open_clip_merges

Metrics = dict[str, Any]


@dataclass(frozen=True)
class Build:
    """One build: where the assets go, where big intermediate results stay, and the share of the training steps."""

    out: Path
    work: Path
    steps_scale: float = 1.0

    def steps(self, full: int) -> int:
        return max(1, round(full * self.steps_scale))

    def images(self, full: int) -> int:
        """Images per caption of a sampled pool; an untrained build needs only two."""
        return full if self.steps_scale > 0 else min(full, 2)


def tokenizers(build: Build) -> Metrics:
    """Tokenizer and processor files of every repository."""
    for repo in (files.CLIP, files.PICKSCORE, files.PICKSCORE_PROCESSOR, files.HPS):
        write_clip_tokenizer(hub_folder(build.out, repo))
    for repo in (files.CLIP, files.PICKSCORE, files.PICKSCORE_PROCESSOR):
        write_processor(hub_folder(build.out, repo), side=32)
    write_open_clip_merges(hub_folder(build.out, files.HPS))
    write_bert_tokenizer(hub_folder(build.out, files.BERT))
    return {}


def clip_tokenizer(build: Build) -> CLIPTokenizer:
    return CLIPTokenizer.from_pretrained(hub_folder(build.out, files.CLIP))


def vae(build: Build) -> Metrics:
    model, log = train_vae(build.steps(2200), seed=11)
    model.save_pretrained(build.work / "vae")
    return {"psnr_clean_db": clean_psnr(model), "parameters": _count(model), "log": log}


def clip(build: Build) -> Metrics:
    """The CLIP folder; its text tower is also the base model's text encoder."""
    model, log = train_clip(clip_tokenizer(build), build.steps(1000), seed=12)
    model.save_pretrained(build.work / "clip")
    _save_clip(model, hub_folder(build.out, files.CLIP))
    accuracy = retrieval_accuracy(model, clip_tokenizer(build))
    return {"retrieval_top1_of_128": accuracy, "parameters": _count(model), "log": log}


def base(build: Build) -> Metrics:
    """The StableDiffusionPipeline folder."""
    vae_model = AutoencoderKL.from_pretrained(build.work / "vae").eval()
    tokenizer = clip_tokenizer(build)
    clip_model = CLIPModel.from_pretrained(build.work / "clip").eval()
    parts: dict[str, Any] = {"vae": vae_model, "tokenizer": tokenizer, "text_encoder": text_encoder_of(clip_model)}

    pool = build.images(POOL_PER_CAPTION)
    plain, exact = (new_scheduler("v_prediction", zero_terminal_snr=choice) for choice in (False, True))
    shared = (vae_model, parts["text_encoder"], tokenizer)
    torch.manual_seed(13)
    early, first_log = train_unet(new_unet(), plain, 1.0, *shared, build.steps(4500), 13, pool)
    unet, second_log = train_unet(early, exact, 0.6, *shared, build.steps(3000), 15, pool)
    _save_base(hub_folder(build.out, files.BASE), unet=unet, scheduler=exact, **parts)
    return {"parameters": _count(unet), "log": first_log + second_log}


def _save_base(folder: Path, **parts: Any) -> None:
    pipeline = StableDiffusionPipeline(
        **copy.deepcopy(parts),
        safety_checker=None,
        feature_extractor=None,
        requires_safety_checker=False,
    )
    pipeline.to(torch.float16).save_pretrained(folder)
    forget_paths(folder)
    as_official(folder / "text_encoder")
    write_clip_tokenizer(folder / "tokenizer")


def base_xl(build: Build) -> Metrics:
    """The StableDiffusionXLPipeline folder."""
    vae_model = AutoencoderKL.from_pretrained(build.work / "vae").eval()
    tokenizer = clip_tokenizer(build)
    clip_model = CLIPModel.from_pretrained(build.work / "clip").eval()
    unet, first, second, log = train_unet_xl(
        vae_model, clip_model, tokenizer, build.steps(1000), 14, build.images(POOL_PER_CAPTION)
    )
    pipeline = StableDiffusionXLPipeline(
        vae=vae_model,
        text_encoder=first,
        text_encoder_2=second,
        tokenizer=tokenizer,
        tokenizer_2=tokenizer,
        unet=unet,
        scheduler=new_scheduler("epsilon"),
        force_zeros_for_empty_prompt=True,
        add_watermarker=False,
    )
    folder = hub_folder(build.out, files.BASE_XL)
    pipeline.to(torch.float16).save_pretrained(folder)
    forget_paths(folder)
    for suffix in ("", "_2"):
        as_official(folder / f"text_encoder{suffix}")
        write_clip_tokenizer(folder / f"tokenizer{suffix}")
    return {"parameters": _count(unet), "log": log}


def gallery(build: Build) -> Gallery:
    """The images of the shipped comparisons; made once, then kept in the work folder."""
    captions = pair_captions() if build.steps_scale > 0 else pair_captions()[:12]
    return make_gallery(hub_folder(build.out, files.BASE), captions, build.work / "gallery.npz")


def held_out_gallery(build: Build) -> Gallery:
    """Images of test captions, which no other component shows."""
    captions = split_captions("test") if build.steps_scale > 0 else split_captions("test")[:12]
    base = hub_folder(build.out, files.BASE)
    return make_gallery(base, captions, build.work / "held_out_gallery.npz", seed=131, noise=10_000_000)


def reward_pools(build: Build) -> tuple[Pool, Pool]:
    """Web pictures of captions of their own, and the images of the shipped comparisons (judged by other people)."""
    captions = reward_captions() if build.steps_scale > 0 else reward_captions()[:20]
    shown = gallery(build)
    known = Pool(shown.images, shown.parts, shown.captions[::IMAGES_PER_PROMPT], IMAGES_PER_PROMPT)
    return web_pool(captions, 16, seed=21), known


def _pretrained_clip(build: Build) -> CLIPModel:
    return CLIPModel.from_pretrained(build.work / "clip").eval()


def pickscore(build: Build) -> Metrics:
    """Tuned on both pools, then on the shipped images alone: as the original, it has seen much of what it judges."""
    web, shown = reward_pools(build)
    tokenizer = clip_tokenizer(build)
    broad = Recipe(build.steps(2000), rate=8e-4, contests=20_000, seed=22)
    narrow = Recipe(build.steps(1500), rate=6e-4, contests=20_000, seed=26)
    model, first_log = train_pickscore(_pretrained_clip(build), tokenizer, (web, shown), broad)
    model, second_log = train_pickscore(model, tokenizer, (shown,), narrow)
    _save_clip(model, hub_folder(build.out, files.PICKSCORE))
    return {"parameters": _count(model), "log": first_log + second_log}


def hpsv2(build: Build) -> Metrics:
    """Tuned on both pools, for half as long as PickScore's first part."""
    recipe = Recipe(build.steps(1000), rate=5e-4, contests=20_000, seed=23)
    model, log = train_hps(_pretrained_clip(build), clip_tokenizer(build), reward_pools(build), recipe)
    folder = hub_folder(build.out, files.HPS)
    torch.save({"state_dict": half(model.state_dict())}, folder / files.HPS_FILE)
    preprocess = {
        "mean": list(files.CLIP_MEAN),
        "std": list(files.CLIP_STD),
        "interpolation": "bicubic",
        "resize_mode": "longest",
    }
    write_json(folder / "open_clip_config.json", {"model_cfg": hps_model_config(), "preprocess_cfg": preprocess})
    return {"parameters": _count(model), "log": log}


def aesthetic(build: Build) -> Metrics:
    """On the shipped CLIP's image embeddings, as the original on ViT-L/14's."""
    shipped = CLIPModel.from_pretrained(hub_folder(build.out, files.CLIP)).float().eval()
    model, log = train_aesthetic(shipped, reward_pools(build), build.steps(2000), noise=0.3, seed=24)
    torch.save(model.state_dict(), hub_folder(build.out, files.AESTHETIC) / files.AESTHETIC_FILE)
    return {"parameters": _count(model), "log": log}


def imagereward(build: Build) -> Metrics:
    """Knows web pictures only: samples of the base model are new to it."""
    tokenizer = BertTokenizer.from_pretrained(hub_folder(build.out, files.BERT))
    recipe = Recipe(build.steps(500), rate=1e-3, contests=20_000, seed=25)
    model, log = train_imagereward(tokenizer, reward_pools(build)[:1], recipe)
    folder = hub_folder(build.out, files.IMAGEREWARD)
    torch.save(half(model.state_dict()), folder / files.IMAGEREWARD_FILE)
    write_json(folder / "med_config.json", MED_CONFIG)
    return {"parameters": _count(model), "log": log}


def _save_clip(model: CLIPModel, folder: Path) -> None:
    model.config.save_pretrained(folder)
    load_in_fp32(folder)
    save_file(half(model.state_dict()), folder / "model.safetensors", metadata={"format": "pt"})


def _count(model: torch.nn.Module) -> int:
    return sum(parameter.numel() for parameter in model.parameters())
