"""Checkpoints that are not on the model hub but on GitHub."""

import urllib.error
import urllib.request
from collections.abc import Iterator

from deploy.doctor.findings import Finding, error, ok
from deploy.doctor.surroundings import Surroundings
from pipeline_lib.core.hub import HUB
from pipeline_lib.presets import preset
from pipeline_lib.scoring.checkpoints import downloaded, github_url
from pipeline_lib.scoring.scorers import files_of

CHECK = "github"
TIMEOUT_S = 5.0


def github(surroundings: Surroundings) -> Iterator[Finding]:
    """Whether those of the preset's scorers are in torch's cache, or can be fetched."""
    settings = preset(surroundings.preset)
    for one in files_of(settings.scorers) if settings.weights == HUB else []:
        if one.host != "github":
            continue
        target = downloaded(one.file)
        if target.is_file():
            yield ok(CHECK, f"{target} is there")
        else:
            yield reachable(github_url(one.repo, one.revision, one.file), str(target))


def reachable(url: str, target: str) -> Finding:
    """Whether the URL answers a HEAD request; `target` is where the file can be put by hand."""
    try:
        with urllib.request.urlopen(urllib.request.Request(url, method="HEAD"), timeout=TIMEOUT_S):
            return ok(CHECK, f"{url} can be fetched")
    except OSError as problem:
        reason = problem.code if isinstance(problem, urllib.error.HTTPError) else getattr(problem, "reason", problem)
        remedy = f"check the network, or put the file at {target}, or give a mirror: --param weights=/mirror"
        return error(CHECK, f"{url} cannot be fetched: {reason}", remedy)
