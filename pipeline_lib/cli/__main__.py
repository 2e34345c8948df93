"""`python -m pipeline_lib.cli`, the same as `prefalign`."""

import sys

from pipeline_lib.cli import main

sys.exit(main())
