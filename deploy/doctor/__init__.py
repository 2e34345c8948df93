"""Looks at everything a run needs and says what is wrong and what to do: `make doctor`, `python -m deploy.doctor`.

A check is a function of the `Surroundings` that yields `Finding`s; checks.py lists them. They only look: nothing is
changed but a small object on S3 that is deleted again.
"""

from deploy.doctor.examine import examine
from deploy.doctor.findings import Finding
from deploy.doctor.surroundings import Surroundings, look_around

__all__ = ["Finding", "Surroundings", "examine", "look_around"]
