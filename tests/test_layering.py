"""The layers of the project: what each folder may import, read from the sources themselves."""

import ast
import subprocess
import sys
from pathlib import Path

import pytest

ROOT = Path(__file__).resolve().parents[1]
FORBIDDEN = {
    "pipeline_lib": {"prefect", "mlflow", "tasks", "flows", "deploy", "tests"},
    "tasks": {"flows", "deploy", "tests"},
    "flows": {"deploy", "tests"},
    "deploy": {"tests"},
}


def imported_packages(source: str) -> set[str]:
    """Top-level names of every import in a source text, at module level or inside functions."""
    names: set[str] = set()
    for node in ast.walk(ast.parse(source)):
        if isinstance(node, ast.Import):
            names.update(alias.name.partition(".")[0] for alias in node.names)
        elif isinstance(node, ast.ImportFrom) and node.level == 0 and node.module:
            names.add(node.module.partition(".")[0])
    return names


def test_imports_inside_functions_are_seen() -> None:
    assert imported_packages("def f():\n    import mlflow.tracking\n    from prefect.client import x") == {
        "mlflow",
        "prefect",
    }


@pytest.mark.parametrize("layer", FORBIDDEN)
def test_layer_imports_nothing_above_it(layer: str) -> None:
    files = sorted((ROOT / layer).rglob("*.py"))
    assert files, f"no sources under {layer}/"
    wrong = {
        str(path.relative_to(ROOT)): sorted(found)
        for path in files
        if (found := imported_packages(path.read_text(encoding="utf-8")) & FORBIDDEN[layer])
    }
    assert not wrong, f"{layer}/ must not import {sorted(FORBIDDEN[layer])}: {wrong}"


def unpickling(source: str) -> list[str]:
    """What in a source text could run code that comes with data."""
    found = sorted(imported_packages(source) & {"pickle", "cloudpickle", "dill", "joblib", "shelve", "marshal"})
    for call in (node for node in ast.walk(ast.parse(source)) if isinstance(node, ast.Call)):
        name, options = ast.unparse(call.func), {k.arg: ast.unparse(k.value) for k in call.keywords}
        unsafe = name == "torch.load" and options.get("weights_only") != "True"
        if unsafe or options.get("allow_pickle") == "True" or name in ("yaml.load", "eval", "exec"):
            found.append(ast.unparse(call))
    return found


def test_no_data_is_unpickled_or_run() -> None:
    planted = "import pickle\ntorch.load(p, weights_only=False)\nnp.load(p, allow_pickle=True)\ntorch.load(p)"
    assert len(unpickling(planted)) == 4
    assert not unpickling("torch.load(p, weights_only=True)\nyaml.safe_load(t)\nmodel.eval()")
    sources = [path for layer in FORBIDDEN for path in (ROOT / layer).rglob("*.py")]
    assert {str(path): found for path in sources if (found := unpickling(path.read_text(encoding="utf-8")))} == {}


def test_light_modules_do_not_load_torch() -> None:
    """Every command line and every deployment's schema imports configs, registries and the store."""
    light = [
        "core.config",
        "core.errors",
        "core.schemas",
        "core.store",
        "data.sources",
        "labels",
        "models",
        "presets",
        "scoring",
        # What a run asks before it knows that there is anything to do.
        "encoding.plan",
        "generation.stage",
        "models.named",
        "models.noise",
        "scoring.aesthetic",
        "scoring.hpsv2",
        "scoring.imagereward",
        "scoring.pickscore",
        "training.launch.job",
    ]
    present = [f"pipeline_lib.{name}" for name in light]
    heavy = ("torch", "transformers", "diffusers")
    code = f"import sys, {', '.join(present)}; print([m for m in {heavy} if m in sys.modules])"
    result = subprocess.run([sys.executable, "-c", code], cwd=ROOT, capture_output=True, text=True, timeout=120)
    assert result.returncode == 0, result.stderr
    assert result.stdout.strip() == "[]", f"importing {present} loads {result.stdout.strip()}"


def test_flows_do_not_load_torch() -> None:
    """Every deployment's registration and the start of every flow run import them."""
    flows = [f"flows.{path.stem}" for path in sorted((ROOT / "flows").glob("*.py")) if path.stem != "__init__"]
    assert flows
    heavy = ("torch", "transformers", "diffusers")
    code = f"import sys, {', '.join(flows)}; print([m for m in {heavy} if m in sys.modules])"
    result = subprocess.run([sys.executable, "-c", code], cwd=ROOT, capture_output=True, text=True, timeout=120)
    assert result.returncode == 0, result.stderr
    assert result.stdout.strip() == "[]", f"importing the flows loads {result.stdout.strip()}"
