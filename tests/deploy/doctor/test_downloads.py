"""Access to the checkpoints: a hub that is gated, lacks a revision, refuses the token, or is not there."""

from __future__ import annotations

import re
from collections.abc import Mapping

import pytest
from huggingface_hub import constants

from deploy.doctor import Surroundings
from deploy.doctor.github import github, reachable
from deploy.doctor.hub import Hub, Wanted, ask, hub, wanted_by
from deploy.stack.processes import free_port
from pipeline_lib.presets import PRESETS, preset
from pipeline_lib.scoring import scorers
from tests.deploy.doctor.loopback import Answer, answering

SHA = "0" * 40


@pytest.fixture
def online(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(constants, "HF_HUB_OFFLINE", False)


def model_hub(path: str, headers: Mapping[str, str]) -> Answer:
    """One repository for each thing that can be wrong; `org/gated` opens with a token."""
    found = re.fullmatch(r"/(?:datasets/)?(org/\w+)/resolve/(\w+)/(.+)", path)
    assert found, path
    repo, revision, file = found.groups()
    token = headers.get("Authorization") or headers.get("authorization")
    if token and token != "Bearer hf_right":
        return 401, {"X-Error-Message": "Invalid credentials in Authorization header"}, ""
    if repo == "org/gated" and not token:
        return 401, {"X-Error-Code": "GatedRepo"}, ""
    if repo == "org/absent":
        return 404, {"X-Error-Code": "RepoNotFound"}, ""
    if revision != SHA:
        return 404, {"X-Error-Code": "RevisionNotFound"}, ""
    if file == "lost.bin":
        return 404, {"X-Error-Code": "EntryNotFound"}, ""
    return 200, {"ETag": '"abc"', "X-Repo-Commit": SHA}, "{}"


def test_repositories_that_can_and_cannot_be_read(online: None) -> None:
    wanted = [
        Wanted("org/open", SHA, "config.json"),
        Wanted("org/pairs", SHA, ".gitattributes", "dataset"),
        Wanted("org/gated", SHA, "config.json"),
        Wanted("org/absent", SHA, "config.json"),
        Wanted("org/open", "1" * 40, "config.json"),
        Wanted("org/open", SHA, "lost.bin"),
    ]
    with answering(model_hub) as url:
        anonymous, known = (list(ask(Hub(url, token), wanted)) for token in (None, "hf_right"))
        (refused,) = ask(Hub(url, "hf_wrong"), wanted[:1])
    assert [(finding.level, finding.what.partition(",")[0]) for finding in anonymous] == [
        ("error", "org/gated is gated"),
        ("error", "org/absent is not there"),
        ("error", f"org/open has no revision {'1' * 40}"),
        ("error", "org/open lacks lost.bin"),
        ("ok", "2 of 6 repositories can be read (no HF_TOKEN"),
    ]
    assert f"accept its terms at {url}/org/gated" in anonymous[0].remedy and "HF_TOKEN" in anonymous[0].remedy
    assert "3 of 6 repositories can be read (with HF_TOKEN)" in known[-1].what
    assert refused.level == "error" and "refuses HF_TOKEN" in refused.what


def test_a_hub_that_is_not_there_is_one_finding(online: None) -> None:
    variables = {"HF_ENDPOINT": f"http://127.0.0.1:{free_port()}"}
    (finding,) = hub(Surroundings(variables, "sdxl"))
    assert finding.level == "error" and finding.what.startswith(f"{variables['HF_ENDPOINT']} cannot be reached")
    assert "the cache lacks 9 of 9 repositories" in finding.what


def test_offline_is_one_finding(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(constants, "HF_HUB_OFFLINE", True)
    (finding,) = hub(Surroundings({}, "sd15"))
    assert finding.level == "error" and "HF_HUB_OFFLINE is set, and the cache lacks" in finding.what


def test_the_built_in_world_needs_no_hub() -> None:
    (finding,) = hub(Surroundings({}, "shapes"))
    assert finding.level == "ok"
    assert not list(github(Surroundings({}, "shapes")))


@pytest.mark.parametrize("name", sorted(set(PRESETS) - {"shapes"}))
def test_what_presets_want_is_what_they_read(name: str, monkeypatch: pytest.MonkeyPatch) -> None:
    """Every repository at its pinned revision: those of the base, and those that the scorers ask `snapshot` for."""
    settings = preset(name)
    read = {(settings.base.repo, settings.base.revision), ("liuhuohuo2/pick-a-pic-v2", "f602d48")}
    if settings.base.vae_repo:
        read.add((settings.base.vae_repo, settings.base.vae_revision))

    def snapshot(repo: str, revision: str | None = None, *rest: object, **more: object) -> object:
        read.add((repo, revision))
        raise LookupError

    for module in ("checkpoints", "pickscore", "hpsv2", "imagereward"):
        monkeypatch.setattr(f"pipeline_lib.scoring.{module}.snapshot", snapshot)
    monkeypatch.setattr("pipeline_lib.scoring.aesthetic.github_file", lambda *_: None)
    for scorer in settings.scorers:
        with pytest.raises(LookupError):
            scorers.SCORERS.get(scorer).locate(settings.weights)
    wanted = {(one.repo, one.revision) for one in wanted_by(settings)}
    assert read <= wanted
    # `snapshot` gives up at a scorer's first repository; these are their second ones.
    assert {repo for repo, _ in wanted - read} <= {
        "laion/CLIP-ViT-H-14-laion2B-s32B-b79K",
        "google-bert/bert-base-uncased",
    }


def test_the_file_on_github() -> None:
    def answer(path: str, headers: Mapping[str, str]) -> Answer:
        return (200, {}, "") if path == "/there" else (404, {}, "")

    with answering(answer) as url:
        assert reachable(f"{url}/there", "/cache/head.pth").level == "ok"
        gone = reachable(f"{url}/gone", "/cache/head.pth")
    assert gone.level == "error" and gone.what.endswith("cannot be fetched: 404")
    assert "put the file at /cache/head.pth" in gone.remedy
