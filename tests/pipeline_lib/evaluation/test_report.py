"""The page: complete, self-contained, accessible in its markup, bounded in size, and free of other people's HTML."""

import io
from typing import Any

import numpy as np
from PIL import Image

from pipeline_lib.evaluation import report as reports
from pipeline_lib.evaluation.examples import Example, Side, gains
from pipeline_lib.evaluation.winrates import TRUE, compare
from pipeline_lib.reports import Curve
from tests.pipeline_lib.pages import Page

HOSTILE = '<script>alert("1")</script> & a "cat"'


def png(side: int, seed: int = 0) -> bytes:
    buffer = io.BytesIO()
    noise = np.random.default_rng(seed).integers(0, 255, (side, side, 3), dtype=np.uint8)
    Image.fromarray(noise).save(buffer, format="PNG")
    return buffer.getvalue()


def content(shift: float = 0.5, names: tuple[str, ...] = ("aligned",)) -> dict[str, Any]:
    """A report about 40 prompts; the true utility and clip differ by `shift` standard deviations."""
    rng = np.random.default_rng(0)
    theirs = {scorer: rng.normal(size=40) for scorer in ("clip", "hpsv2", TRUE)}
    ours = {scorer: values + shift + 0.5 * rng.normal(size=40) for scorer, values in theirs.items()}
    numbers = reports.comparison_numbers(compare(ours, theirs, [str(i) for i in range(40)]))
    model = {"images": {"uri": "images/0", "digest": "d" * 64}, "weights": [], "means": dict.fromkeys(theirs, 0.25)}
    settings = {"seeds": [0], "scheduler": "ddim", "steps": 20, "guidance": 3.0, "resolution": 32, "num_prompts": None}
    return {
        "title": "aligned against base",
        "reference": "base",
        "settings": {**settings, "prompts": "shapes-test"},
        "base": {"family": "sd", "repo": "shapes/base", "vae_repo": None},
        "scorers": {"clip": {"version": 1, "weights": "abc"}, "hpsv2": {"version": 1, "weights": "def"}},
        "prompts": {
            "name": "shapes-test",
            "digest": "00",
            "used": 40,
            "checked": True,
            "leaked": [],
            "unchecked": [],
        },
        "statistics": reports.statistics_used(40, 0.0),
        "training_pairs": [],
        "lineage": [],
        "labels": [],
        "agreement": [],
        "models": {"base": model, **dict.fromkeys(names, model)},
        "comparisons": dict.fromkeys(names, numbers),
        "gate": {},
        "pull": {"aligned": 'download("models:/aligned@candidate")'},
    }


def example(prompt: str, image: bytes, model: str = "aligned") -> Example:
    low, high = {"clip": 0.1, "hpsv2": 0.2, TRUE: 3.0}, {"clip": 0.2, "hpsv2": 0.2, TRUE: 2.0}
    return Example(prompt, 0, Side("base", image, low), Side(model, image, high))


def page(
    report: dict[str, Any], images: bytes | None = None, prompt: str = "a cat", count: int = 1
) -> tuple[str, Page]:
    picture = images or png(32)
    shown = {name: [example(prompt, picture, name)] * count for name in report["comparisons"]}
    curves = {"aligned": [Curve("Loss", [1, 2, 3], [0.7, 0.6, 0.65])]}
    html = reports.render(report, shown, curves)
    return html, Page(html)


def test_the_page_is_self_contained() -> None:
    html, parsed = page(content())
    assert "http://" not in html and "https://" not in html and "@import" not in html
    parsed.check()
    assert any("default-src 'none'" in (meta.get("content") or "") for meta in parsed.all("meta"))


def test_headline_numbers_are_those_of_the_json() -> None:
    report = content()
    _, parsed = page(report)
    point, low, high = report["comparisons"]["aligned"]["scorers"][TRUE]["win_rate"]
    assert f"{100 * point:.1f}%" in parsed.text
    assert f"{100 * low:.1f}% to {100 * high:.1f}%" in parsed.text
    assert "Better" in parsed.text and "true utility" in parsed.text
    assert "models:/aligned@candidate" in parsed.text


def test_categories_diversity_and_the_gate_are_shown() -> None:
    report = content()
    _, parsed = page(report)
    assert "By category" not in parsed.text and "Gate" not in parsed.text
    part = report["comparisons"]["aligned"]
    extra = {"categories": {HOSTILE: part}, "diversity": [-0.25, -0.375, -0.125]}
    report["comparisons"] = {"aligned": {**part, **extra}}
    report["models"] = {name: {**model, "diversity": 0.5} for name, model in report["models"].items()}
    report["gate"] = {"aligned": {"sentence": "Passes the gate against base & friends."}}
    html, parsed = page(report)
    assert HOSTILE not in html and HOSTILE in parsed.text
    assert "−0.250 (−0.375 to −0.125)" in parsed.text and "0.500 → 0.500" in parsed.text
    assert "Passes the gate against base & friends." in parsed.text
    point, low, high = part["average"]
    assert f"{100 * point:.1f}% {100 * low:.1f}% to {100 * high:.1f}%" in " ".join(parsed.text.split())


def test_a_worse_model_is_called_worse_and_by_whom() -> None:
    _, parsed = page(content(shift=-0.8))
    assert "Worse" in parsed.text and "Significantly worse by: CLIP, HPSv2" in parsed.text
    _, parsed = page(content(shift=0.0))
    assert "No clear difference" in parsed.text


def test_every_reference_and_image_has_its_text() -> None:
    _, parsed = page(content(names=("aligned", "other")), count=2)
    ids = [a["id"] for _, a in parsed.elements if "id" in a]
    assert len(ids) == len(set(ids))
    for _, attributes in parsed.elements:
        for name in ("aria-labelledby", "for", "data-copy"):
            assert set((attributes.get(name) or "").split()) <= set(ids)
    assert all(image["alt"] for image in parsed.all("img"))
    assert all(chart.get("aria-hidden") or chart.get("role") == "img" or chart.get("x") for chart in parsed.all("svg"))
    assert "aligned against base" in parsed.text and "other against base" in parsed.text


def test_texts_of_others_are_escaped() -> None:
    report = content()
    report["prompts"]["leaked"] = [HOSTILE]
    report["title"] = HOSTILE
    html, parsed = page(report, prompt=HOSTILE)
    assert HOSTILE not in html
    assert parsed.text.count('alert("1")') == 4


def test_large_images_are_scaled_down_and_small_ones_kept_sharp() -> None:
    html, parsed = page(content(), images=png(1024), count=4 * reports.EXAMPLES)
    assert len(html) < 8_000_000  # of noise, the worst case for JPEG
    assert all((image["src"] or "").startswith("data:image/jpeg") for image in parsed.all("img"))
    _, parsed = page(content())
    assert all(
        (image["src"] or "").startswith("data:image/png") and image["class"] == "pixelated"
        for image in parsed.all("img")
    )


def test_training_curves_drop_what_is_not_finite_and_keep_the_last_of_a_step() -> None:
    metrics = [
        {"step": 1, "loss": 0.7},
        {"step": 2, "loss": 9.0},
        {"step": 2, "loss": 0.6, "lr": 1e-4},
        {"step": 3, "loss": float("nan"), "implicit_accuracy": 0.5},
    ]
    assert reports.training_curves(metrics) == [
        Curve("Loss", [1, 2], [0.7, 0.6]),
        Curve("Implicit accuracy", [3], [0.5]),
    ]


def test_examples_are_ranked_by_the_truth_where_known() -> None:
    zero = np.zeros(3)
    assert (
        gains({"clip": np.array([1.0, 2, 3]), TRUE: np.array([3.0, 1, 2])}, {"clip": zero, TRUE: zero}).argmax() == 0
    )
    assert gains({"clip": np.array([1.0, 2, 3])}, {"clip": zero}).argmax() == 2
