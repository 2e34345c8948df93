"""How to fetch a registered model and paint with it, no code of ours needed: a text for reports and the registry."""

from __future__ import annotations

from importlib.metadata import version

from pipeline_lib.core.config import EvaluateConfig

OLDER = {"4.46.3": "0.31.0", "4.57.6": "0.35.2"}
"""transformers -> diffusers: older pairs than the pinned one in which tests/older loads what `register` publishes."""


def pull_commands(uri: str, config: EvaluateConfig) -> str:
    """Python lines that fetch the model `uri` and paint, for a prompt and seed of the evaluation, the same image.

    The folder's scheduler is the evaluation's, the initial noise `initial_noise` for prompts without superfluous white
    space. On a GPU pixels may differ by a grey level, because several images at once are painted there, which
    round differently. The type is `.to`'s: from_pretrained's `dtype` was `torch_dtype` in older versions of diffusers.
    """
    size = config.resolution
    return (
        "import hashlib, mlflow, torch\n"
        "from diffusers import DiffusionPipeline\n\n"
        f'folder = mlflow.artifacts.download_artifacts("{uri}")\n'
        "pipe = DiffusionPipeline.from_pretrained(folder, use_safetensors=True)\n"
        f'pipe.to("cuda" if torch.cuda.is_available() else "cpu", torch.{config.dtype})\n\n'
        'prompt, seed = "a prompt", 0  # with those of a published image: that image\n'
        'key = hashlib.sha256(f"noise\\x1f{prompt}\\x1f{seed}".encode()).hexdigest()[:16]\n'
        f"shape = (1, pipe.unet.config.in_channels, *[{size} // pipe.vae_scale_factor] * 2)\n"
        "noise = torch.randn(shape, generator=torch.manual_seed(int(key, 16) >> 1))\n"
        f"sampling = dict(num_inference_steps={config.steps}, guidance_scale={config.guidance}, "
        f"height={size}, width={size})\n"
        "image = pipe(prompt, latents=noise.to(pipe.device, pipe.dtype), **sampling).images[0]\n"
        'image.save("image.png")\n'
    )


def tried_versions() -> str:
    """Which versions of the libraries load a published folder: a sentence for the model's page."""
    pairs = {**OLDER, version("transformers"): version("diffusers")}
    names = [f"transformers {transformers} with diffusers {diffusers}" for transformers, diffusers in pairs.items()]
    return f"Folders of this kind were tried with {', '.join(names[:-1])} and {names[-1]}: they paint the same images."
