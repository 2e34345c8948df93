"""The steps of the build, each writing finished files: weights in the official formats, then pairs and truth."""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
import torch
from diffusers import AutoencoderKL, StableDiffusionPipeline, StableDiffusionXLPipeline
from safetensors.torch import save_file
from transformers import BertTokenizer, CLIPModel, CLIPTokenizer

from pipeline_lib.shapes import hub_files as files
from pipeline_lib.shapes.blip import MED_CONFIG
from pipeline_lib.shapes.hub_files import half, hub_folder, load_in_fp32, write_json, write_processor
from pipeline_lib.shapes.preferences import Pool, make_pool, reward_captions, web_pool
from pipeline_lib.shapes.pretrain_aesthetic import train_aesthetic
from pipeline_lib.shapes.pretrain_clip import retrieval_accuracy, train_clip
from pipeline_lib.shapes.pretrain_imagereward import train_imagereward
from pipeline_lib.shapes.pretrain_preference import Recipe, hps_model_config, train_hps, train_pickscore
from pipeline_lib.shapes.pretrain_unet import new_scheduler, train_unet
from pipeline_lib.shapes.pretrain_vae import clean_psnr, train_vae
from pipeline_lib.shapes.pretrain_xl import train_unet_xl
from pipeline_lib.shapes.sampling import load_base, sample
from pipeline_lib.shapes.tokenizers import write_bert_tokenizer, write_clip_tokenizer, write_open_clip_merges

Metrics = dict[str, Any]

SHIPPED_CLIP_STEP = 300
SAMPLED_REWARD_CAPTIONS = 300
SAMPLES_PER_CAPTION = 8
SAMPLE_GUIDANCE = 3.0


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
        return full if self.steps_scale > 0 else 2


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
    model, log = train_vae(build.steps(3000), seed=11)
    model.save_pretrained(build.work / "vae")
    return {"psnr_clean_db": clean_psnr(model), "parameters": _count(model), "log": log}


def clip(build: Build) -> Metrics:
    """Two stages of one training: the shipped CLIP is an early one, the base model's text encoder the final one."""

    def keep(model: CLIPModel, step: int) -> None:
        if step == build.steps(SHIPPED_CLIP_STEP):
            _save_clip(model, hub_folder(build.out, files.CLIP))

    model, log = train_clip(clip_tokenizer(build), build.steps(1000), seed=12, after_step=keep)
    model.save_pretrained(build.work / "clip")
    return {
        "retrieval_top1_of_128": retrieval_accuracy(model, clip_tokenizer(build)),
        "parameters": _count(model),
        "log": log,
    }


def base(build: Build) -> Metrics:
    """The StableDiffusionPipeline folder."""
    vae_model = AutoencoderKL.from_pretrained(build.work / "vae").eval()
    tokenizer = clip_tokenizer(build)
    clip_model = CLIPModel.from_pretrained(build.work / "clip").eval()
    unet, encoder, log = train_unet(
        vae_model, clip_model, tokenizer, build.steps(6000), seed=13, checkpoint=build.work / "unet.pt"
    )
    pipeline = StableDiffusionPipeline(
        vae=vae_model,
        text_encoder=encoder,
        tokenizer=tokenizer,
        unet=unet,
        scheduler=new_scheduler("v_prediction"),
        safety_checker=None,
        feature_extractor=None,
        requires_safety_checker=False,
    )
    folder = hub_folder(build.out, files.BASE)
    pipeline.to(torch.float16).save_pretrained(folder)
    load_in_fp32(folder / "text_encoder")
    write_clip_tokenizer(folder / "tokenizer")
    return {"parameters": _count(unet), "log": log}


def base_xl(build: Build) -> Metrics:
    """The StableDiffusionXLPipeline folder."""
    vae_model = AutoencoderKL.from_pretrained(build.work / "vae").eval()
    tokenizer = clip_tokenizer(build)
    clip_model = CLIPModel.from_pretrained(build.work / "clip").eval()
    unet, first, second, log = train_unet_xl(vae_model, clip_model, tokenizer, build.steps(1500), seed=14)
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
    for suffix in ("", "_2"):
        load_in_fp32(folder / f"text_encoder{suffix}")
        write_clip_tokenizer(folder / f"tokenizer{suffix}")
    return {"parameters": _count(unet), "log": log}


def samples(build: Build) -> Metrics:
    """Base samples of the reward models' captions: the second pool they learn from."""
    captions = reward_captions()[: build.images(SAMPLED_REWARD_CAPTIONS)]
    repeated = [caption for caption in captions for _ in range(SAMPLES_PER_CAPTION)]
    pipeline = load_base(hub_folder(build.out, files.BASE))
    images = sample(pipeline, repeated, guidance=SAMPLE_GUIDANCE, seed=500_000)
    np.savez_compressed(build.work / "reward_samples.npz", images=images)
    pool = make_pool(images, captions, SAMPLES_PER_CAPTION)
    return {"images": len(images), "mean_attributes": pool.parts.mean(axis=0).tolist()}


def sampled_pool(build: Build) -> Pool:
    """The pool that :func:`samples` wrote."""
    with np.load(build.work / "reward_samples.npz") as data:
        images = data["images"]
    return make_pool(images, reward_captions()[: len(images) // SAMPLES_PER_CAPTION], SAMPLES_PER_CAPTION)


def reward_pools(build: Build, per_caption: int = 16) -> tuple[Pool, Pool]:
    """Web pictures and base samples of the reward models' captions."""
    captions = reward_captions() if build.steps_scale > 0 else reward_captions()[:20]
    return web_pool(captions, per_caption, seed=21), sampled_pool(build)


def _pretrained_clip(build: Build) -> CLIPModel:
    return CLIPModel.from_pretrained(build.work / "clip").eval()


def pickscore(build: Build) -> Metrics:
    recipe = Recipe(build.steps(900), rate=5e-4, comparisons=40_000, extra_noise=0.0, seed=22)
    model, log = train_pickscore(_pretrained_clip(build), clip_tokenizer(build), reward_pools(build), recipe)
    _save_clip(model, hub_folder(build.out, files.PICKSCORE))
    return {"parameters": _count(model), "log": log}


def hpsv2(build: Build) -> Metrics:
    """HPSv2 knows the same captions but only web pictures: base samples are new to it."""
    recipe = Recipe(build.steps(400), rate=5e-4, comparisons=6_000, extra_noise=0.1, seed=23)
    model, log = train_hps(_pretrained_clip(build), clip_tokenizer(build), reward_pools(build)[:1], recipe)
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
    shipped = CLIPModel.from_pretrained(hub_folder(build.out, files.CLIP), torch_dtype=torch.float32).eval()
    model, log = train_aesthetic(shipped, reward_pools(build), build.steps(400), noise=1.0, seed=24)
    torch.save(model.state_dict(), hub_folder(build.out, files.AESTHETIC) / files.AESTHETIC_FILE)
    return {"parameters": _count(model), "log": log}


def imagereward(build: Build) -> Metrics:
    tokenizer = BertTokenizer.from_pretrained(hub_folder(build.out, files.BERT))
    recipe = Recipe(build.steps(600), rate=5e-4, comparisons=8_000, extra_noise=0.1, seed=25)
    model, log = train_imagereward(tokenizer, reward_pools(build), recipe)
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
