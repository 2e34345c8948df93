"""Runs in an older environment: save a pipeline with the scheduler of SD 1.5's repository, as its authors did."""

import sys

from diffusers import DiffusionPipeline, PNDMScheduler

pipe = DiffusionPipeline.from_pretrained(sys.argv[1])
pipe.scheduler = PNDMScheduler.from_config(pipe.scheduler.config, skip_prk_steps=True)
pipe.save_pretrained(sys.argv[2])
