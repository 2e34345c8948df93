"""What every page of the project is made of: a skeleton, charts, tables and embedded pictures, from plain data.

A page is one HTML file without any request: it can be mailed, kept as an artifact and read offline, on a phone, in
dark mode and by a screen reader. Same data, same bytes: nothing here looks at the clock or at the machine.
"""

from pipeline_lib.reports.calibration import Bin, calibration_chart
from pipeline_lib.reports.curves import Curve, curve_chart
from pipeline_lib.reports.histogram import histogram_chart
from pipeline_lib.reports.intervals import Verdict, Whisker, verdict, whisker_chart
from pipeline_lib.reports.matrix import matrix_table
from pipeline_lib.reports.page import render
from pipeline_lib.reports.pictures import Picture, picture
from pipeline_lib.reports.spread import Spread, spread_chart
from pipeline_lib.reports.waterfall import Step, waterfall_chart
from pipeline_lib.reports.words import count, label, number, p_value, percent, signed

__all__ = [
    "Bin",
    "Curve",
    "Picture",
    "Spread",
    "Step",
    "Verdict",
    "Whisker",
    "calibration_chart",
    "count",
    "curve_chart",
    "histogram_chart",
    "label",
    "matrix_table",
    "number",
    "p_value",
    "percent",
    "picture",
    "render",
    "signed",
    "spread_chart",
    "verdict",
    "waterfall_chart",
    "whisker_chart",
]
