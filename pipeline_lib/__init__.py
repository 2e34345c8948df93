"""Preference alignment of text-to-image diffusion models as plain Python: no orchestrator, no tracker.

Read it in the order of the pipeline: `sources` and `ingest`, `scoring`, `labels`, `encoding`, `training`,
`evaluation`; every arrow between them is a dataset of `store`.
"""

from pipeline_lib.core.torchvision_ops import declare_before_import

__version__ = "0.1.0"

declare_before_import()
