"""Whether a base model is one that this pipeline trains and paints as its authors meant it, by its small files alone.

Everything is either honoured alike in encoding, training, samples and evaluation, or refused here. Flows look first
thing; stages look again before they load anything, because a library or another machine may call them.
"""

from __future__ import annotations

from pipeline_lib.config import BaseModel
from pipeline_lib.hub import snapshot
from pipeline_lib.models import FAMILIES
from pipeline_lib.models.components import SCHEDULER, folder
from pipeline_lib.models.configs import read_config
from pipeline_lib.models.family import Family
from pipeline_lib.models.index import INDEX, check_parts
from pipeline_lib.models.known import check_index, check_texts, check_together, check_unet, check_vae, class_of
from pipeline_lib.models.noise import check_noise


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
    encoders = [part for part in family.text_parts if part.startswith("text_encoder")]
    tokenizers = [part for part in family.text_parts if part.startswith("tokenizer")]
    names = {part: f"{part}/config.json" for part in ("unet", *encoders)}
    names |= {part: f"{part}/tokenizer_config.json" for part in tokenizers}
    names |= {"scheduler": SCHEDULER} | ({} if base.vae_repo else {"vae": "vae/config.json"})
    root = snapshot(base.repo, base.revision, [INDEX, *names.values()], base.mirror)
    index, found = read_config(root / INDEX), {part: read_config(root / name) for part, name in names.items()}
    check_parts(index.path, index.fields, ["unet", *([] if base.vae_repo else ["vae"]), *family.text_parts])
    check_index(index)
    timesteps = check_noise(found["scheduler"], class_of(index, "scheduler"))
    check_unet(found["unet"], family)
    if base.vae_repo:
        replacement = snapshot(base.vae_repo, base.vae_revision, ["config.json"], base.mirror)
        found["vae"] = read_config(replacement / "config.json")
    channels = check_vae(found["vae"], family)
    text = check_texts({part: found[part] for part in encoders}, {part: found[part] for part in tokenizers}, family)
    check_together(found["unet"], text, channels)
    return timesteps
