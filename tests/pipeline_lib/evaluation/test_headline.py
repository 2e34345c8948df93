"""The headline in a terminal: every number, in columns."""

from pipeline_lib.evaluation.headline import headline

REPORT = {
    "reference": "base",
    "prompts": {"used": 256},
    "win_rate": {
        "first": {"clip": [0.25, 0.125, 0.375], "imagereward": [1.0, 0.9, 1.0]},
        "second": {"clip": [0.0, 0.0, 0.1], "imagereward": [0.5, 0.4, 0.6]},
    },
}


def test_numbers_are_aligned_and_bars_stop_at_their_share() -> None:
    assert headline(REPORT).splitlines() == [
        "Win rate over base, 256 prompts, 95% intervals",
        "first",
        "  clip         0.250  [0.125, 0.375]  ########.......|...............",
        "  imagereward  1.000  [0.900, 1.000]  ###############|###############",
        "second",
        "  clip         0.000  [0.000, 0.100]  ...............|...............",
        "  imagereward  0.500  [0.400, 0.600]  ###############|...............",
    ]
