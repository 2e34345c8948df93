"""What makes a registered diffusers folder an MLflow model, too: `MLmodel` with a pyfunc and its sampling settings."""

from __future__ import annotations

from importlib.metadata import version
from pathlib import Path

import mlflow
from mlflow.models import Model, ModelSignature
from mlflow.types import ColSpec, DataType, ParamSchema, ParamSpec, Schema

from pipeline_lib.core.config import EvaluateConfig
from pipeline_lib.generation.painter import images_at_once

CODE = Path(__file__).with_name("pyfunc.py")
PACKAGES = ("mlflow", "torch", "diffusers", "transformers", "accelerate")


def write_flavour(folder: Path, config: EvaluateConfig) -> None:
    """Make `folder` an MLflow model that paints as the evaluation with `config` did; it must not exist or be empty.

    The diffusers files belong into the same folder afterwards, beside `pyfunc.py`.
    """
    mlflow.pyfunc.save_model(
        folder,
        python_model=CODE,
        model_config={
            "dtype": config.dtype,
            "batch": {kind: images_at_once(config, kind) for kind in ("cpu", "cuda")},
        },
        signature=ModelSignature(
            inputs=Schema([ColSpec(DataType.string, "prompt"), ColSpec(DataType.long, "seed", required=False)]),
            outputs=Schema([ColSpec(DataType.binary)]),
            params=ParamSchema(
                [
                    ParamSpec("steps", DataType.long, config.steps),
                    ParamSpec("guidance", DataType.double, config.guidance),
                    ParamSpec("resolution", DataType.long, config.resolution),
                ]
            ),
        ),
        input_example={"prompt": ["a red circle", "a blue square"], "seed": [0, 1]},
        metadata={
            "scheduler": config.scheduler,
            "steps": config.steps,
            "guidance": config.guidance,
            "resolution": config.resolution,
            "mixed_precision": config.mixed_precision,
        },
        # Without "+cpu" or "+cu130": a package index has no such build, and a server's needs not be this machine's.
        pip_requirements=[f"{package}=={version(package).partition('+')[0]}" for package in PACKAGES],
    )
    # MLflow records where the code came from on this machine and looks only at the file's name.
    model = Model.load(folder)
    model.flavors[mlflow.pyfunc.FLAVOR_NAME]["model_code_path"] = CODE.name
    model.save(folder / "MLmodel")
