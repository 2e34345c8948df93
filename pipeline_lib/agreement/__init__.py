"""How far scorers agree with people and with each other: numbers, a table of differences, and a page to look at."""

from pipeline_lib.agreement.measures import agreement_of
from pipeline_lib.agreement.stage import agreement

__all__ = ["agreement", "agreement_of"]
