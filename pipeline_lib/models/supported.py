"""Whether a base model is one that this pipeline trains and paints as its authors meant it, by its small files alone.

Everything is either honoured alike in encoding, training, samples and evaluation, or refused here. Flows look first
thing; stages look again before they load anything, because a library or another machine may call them.
"""

from __future__ import annotations

from pipeline_lib.core.config import BaseModel
from pipeline_lib.core.hub import snapshot
from pipeline_lib.core.weights.files import CONFIG
from pipeline_lib.models import FAMILIES
from pipeline_lib.models.configs import read_config
from pipeline_lib.models.family import Family
from pipeline_lib.models.index import INDEX, check_parts
from pipeline_lib.models.known import (
    TOKENIZER,
    check_index,
    check_texts,
    check_together,
    check_unet,
    check_vae,
    class_of,
)
from pipeline_lib.models.noise import check_noise
from pipeline_lib.models.parts import SCHEDULER, folder


def check_supported(base: BaseModel) -> int:
    """Check the configuration of all parts of a base model; fetches these files and no weights.

    Returns:
        the timesteps of its noise schedule.

    Raises:
        ConfigError: it is another kind of model than is known here.
        CheckpointError: a file cannot be read, or a part is of another class.
        HubError: a file is missing, or the hub cannot be reached.
    """
    family: Family = FAMILIES.get(base.family)
    folder(base, [])  # of the family at all?
    models = ["unet", *([] if base.vae_repo else ["vae"])]
    texts = [f"{part}/{TOKENIZER if part.startswith('tokenizer') else CONFIG}" for part in family.text_parts]
    names = [INDEX, SCHEDULER, *(f"{part}/{CONFIG}" for part in models), *texts]
    root = snapshot(base.repo, base.revision, names, base.mirror)
    index, unet = read_config(root / INDEX), read_config(root / "unet" / CONFIG)
    check_parts(index.path, index.fields, [*models, *family.text_parts])
    check_index(index)
    timesteps = check_noise(read_config(root / SCHEDULER), class_of(index, "scheduler"))
    check_unet(unet, family)
    vae = root / "vae"
    if base.vae_repo:
        vae = snapshot(base.vae_repo, base.vae_revision, [CONFIG], base.mirror)
    channels = check_vae(read_config(vae / CONFIG), family)
    check_together(unet, check_texts(root, family.text_parts), channels)
    return timesteps
