"""Free space where datasets, downloads and checkpoints go, beside what the preset needs."""

import os
import shutil
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path

from deploy.doctor.findings import Finding, error, ok, warning
from deploy.doctor.needs import needs_of
from deploy.doctor.surroundings import Surroundings

CHECK = "disk"
SHARED = Path("/dev/shm")


@dataclass(frozen=True)
class Place:
    """A folder, the bytes that a preset's first run writes there, and the variable that puts it elsewhere."""

    name: str
    path: Path
    needed: int
    variable: str


def disks(surroundings: Surroundings) -> Iterator[Finding]:
    """A line for each disk, which needs what all places on it need."""
    needs = needs_of(surroundings.preset)
    places = [Place("state", surroundings.state, needs.state, "PIPELINE_STATE")]
    if "://" not in surroundings.store:
        places.append(Place("store", Path(surroundings.store), needs.store, "PIPELINE_STORE"))
    if needs.cache:
        places.append(Place("hub cache", hub_cache(surroundings), needs.cache, "HF_HOME"))
    on_disk: dict[int, list[Place]] = {}
    for place in places:
        on_disk.setdefault(_existing(place.path).stat().st_dev, []).append(place)
    for group in on_disk.values():
        yield room(group)
    if needs.shared and SHARED.is_dir():
        yield room([Place("shared memory", SHARED, needs.shared, "--shm-size")])


def room(places: list[Place]) -> Finding:
    """Whether there is enough on the disk that the places share, and whether they can be written to."""
    for place in places:
        if not os.access(_existing(place.path), os.W_OK):
            what = f"{place.name}: {place.path} cannot be written by this user"
            return error(CHECK, what, f"chown it, or choose another folder: {place.variable}=/path")
    free = shutil.disk_usage(_existing(places[0].path)).free
    needed = sum(place.needed for place in places)
    names = ", ".join(f"{place.name} {place.path} ({_gb(place.needed)})" for place in places)
    what = f"{names}: {_gb(needed)} for a first run, {_gb(free)} free"
    if free >= needed:
        return ok(CHECK, what)
    options = ", ".join(place.variable for place in places)
    return warning(CHECK, what, f"free some, or a larger place by {options}; PIPELINE_STORE may be s3://")


def hub_cache(surroundings: Surroundings) -> Path:
    """Where huggingface_hub keeps what it downloads."""
    given = surroundings.variables.get("HF_HUB_CACHE")
    home = surroundings.variables.get("HF_HOME") or "~/.cache/huggingface"
    return Path(given or f"{home}/hub").expanduser()


def _existing(path: Path) -> Path:
    return next(place for place in (path, *path.parents) if place.exists())


def _gb(count: int) -> str:
    return f"{count / 1e9:.1f} GB"
