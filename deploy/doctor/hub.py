"""Whether the checkpoints and pairs that a preset reads can be had: from the model hub, the cache, or a mirror."""

from collections.abc import Iterator
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass

from deploy.doctor.findings import Finding, error, ok
from deploy.doctor.surroundings import Surroundings
from pipeline_lib.core.hub import HUB
from pipeline_lib.presets import Preset, preset
from pipeline_lib.scoring.scorers import files_of

CHECK = "hub"
TIMEOUT_S = 5.0
DEFAULT_ENDPOINT = "https://huggingface.co"


@dataclass(frozen=True)
class Wanted:
    """A file that says whether its repository can be read at `revision`; `kind` is model or dataset."""

    repo: str
    revision: str | None
    file: str
    kind: str = "model"


@dataclass(frozen=True)
class Hub:
    """Where and as whom the client asks."""

    endpoint: str
    token: str | None


def hub(surroundings: Surroundings) -> Iterator[Finding]:
    """One line for all that can be read, one for each that cannot, one where the hub cannot be reached at all."""
    wanted = wanted_by(preset(surroundings.preset))
    if not wanted:
        yield ok(CHECK, f"not used: {surroundings.preset} comes with its models and pairs")
        return
    from huggingface_hub import constants, get_token

    if constants.is_offline_mode():
        yield _without_network(wanted, "HF_HUB_OFFLINE is set", "unset HF_HUB_OFFLINE")
        return
    variables = surroundings.variables
    where = Hub(variables.get("HF_ENDPOINT") or DEFAULT_ENDPOINT, variables.get("HF_TOKEN") or get_token())
    yield from ask(where, wanted)


def wanted_by(settings: Preset) -> list[Wanted]:
    """What the preset reads from the hub; nothing of what comes from a mirror."""
    found = []
    base = settings.base
    if base.mirror == HUB:
        found.append(Wanted(base.repo, base.revision, "model_index.json"))
        if base.vae_repo:
            found.append(Wanted(base.vae_repo, base.vae_revision, "config.json"))
    if settings.ingest.source.startswith("hf://datasets/"):
        repo, _, revision = settings.ingest.source.removeprefix("hf://datasets/").partition("@")
        found.append(Wanted(repo, revision.partition("/")[0] or None, ".gitattributes", "dataset"))
    if settings.weights == HUB:
        of_scorers = files_of(settings.scorers)
        found += [Wanted(one.repo, one.revision, one.file) for one in of_scorers if one.host == "hub"]
    return list(dict.fromkeys(found))


def ask(where: Hub, wanted: list[Wanted]) -> Iterator[Finding]:
    """Ask for the first file, then, where the hub answers, for the others at once."""
    first = _problem(where, wanted[0])
    if isinstance(first, ConnectionError):
        endpoint = "the network, the proxy and HF_ENDPOINT"
        yield _without_network(wanted, f"{where.endpoint} cannot be reached", f"check {endpoint}")
        return
    with ThreadPoolExecutor(8) as threads:
        problems = [first, *threads.map(lambda one: _problem(where, one), wanted[1:])]
    wrong = [problem for problem in problems if problem]
    for problem in wrong:
        if isinstance(problem, Finding):
            yield problem
        else:
            yield error(CHECK, f"{problem}", "run it again; a hub that answers now and then will do so in runs")
    login = "with HF_TOKEN" if where.token else "no HF_TOKEN, none is needed for these"
    if len(wrong) < len(wanted):
        yield ok(CHECK, f"{len(wanted) - len(wrong)} of {len(wanted)} repositories can be read ({login})")


def _problem(where: Hub, one: Wanted) -> Finding | ConnectionError | None:
    from huggingface_hub import get_hf_file_metadata, hf_hub_url
    from huggingface_hub.errors import (
        EntryNotFoundError,
        GatedRepoError,
        HfHubHTTPError,
        RepositoryNotFoundError,
        RevisionNotFoundError,
    )

    page = f"{where.endpoint}/{'datasets/' if one.kind == 'dataset' else ''}{one.repo}"
    url = hf_hub_url(one.repo, one.file, repo_type=one.kind, revision=one.revision, endpoint=where.endpoint)
    try:
        get_hf_file_metadata(url, token=where.token or False, timeout=TIMEOUT_S, endpoint=where.endpoint)
    except GatedRepoError:
        remedy = f"accept its terms at {page}, make a token at {where.endpoint}/settings/tokens, export HF_TOKEN=..."
        return error(CHECK, f"{one.repo} is gated{'' if where.token else ', and there is no HF_TOKEN'}", remedy)
    except RevisionNotFoundError:
        return error(
            CHECK, f"{one.repo} has no revision {one.revision}", "give another: --param base=<repo>@<revision>"
        )
    except RepositoryNotFoundError:
        remedy = f"see {page}; give a mirror: --param weights=/mirror (base=/folder, source=/folder)"
        return error(CHECK, f"{one.repo} is not there, or private to others", remedy)
    except EntryNotFoundError:  # the repository could be read
        return None if one.kind == "dataset" else error(CHECK, f"{one.repo} lacks {one.file}", f"see {page}")
    except HfHubHTTPError as problem:
        code = problem.response.status_code if problem.response is not None else 0
        if code == 401:
            return error(CHECK, f"{one.repo}: the hub refuses HF_TOKEN (401)", "export a valid HF_TOKEN, or unset it")
        return error(CHECK, f"{one.repo}: the hub answers {code}", "try again later, or give a mirror")
    except Exception as problem:  # whatever the HTTP client raises when nobody answers
        return ConnectionError(f"{one.repo}: {type(problem).__name__}: {problem}")
    return None


def _without_network(wanted: list[Wanted], why: str, remedy: str) -> Finding:
    """One finding for all: fine where the cache holds what is asked for."""
    absent = [one.repo for one in wanted if not _cached(one)]
    if not absent:
        return ok(CHECK, f"{why}; the cache holds {len(wanted)} of {len(wanted)} repositories")
    what = f"{why}, and the cache lacks {len(absent)} of {len(wanted)} repositories: {', '.join(absent)}"
    mirror = "give mirrors: --param weights=/mirror, --param base=/folder, --param source=/folder"
    return error(CHECK, what, f"{remedy}; or {mirror}")


def _cached(one: Wanted) -> bool:
    from huggingface_hub import try_to_load_from_cache

    return isinstance(try_to_load_from_cache(one.repo, one.file, revision=one.revision, repo_type=one.kind), str)
