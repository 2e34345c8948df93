"""Arrays in files that are mapped into memory, with their space on the disk taken before anything is written."""

from __future__ import annotations

import os
import sys
from pathlib import Path

import numpy as np
from numpy.typing import DTypeLike

from pipeline_lib.core.disk import space


def new_array(path: Path, dtype: DTypeLike, shape: tuple[int, ...]) -> np.memmap:
    """A writable array of zeros in a new `.npy` file.

    Raises:
        DiskFullError: it does not fit; no file is left.
    """
    size = int(np.prod(shape, dtype=np.int64)) * np.dtype(dtype).itemsize
    with space(path.parent, size):
        try:
            array = np.lib.format.open_memmap(path, mode="w+", dtype=dtype, shape=shape)
            # Writing to memory that is mapped to a hole of a file ends the process where the disk is full.
            if sys.platform == "linux":
                with path.open("r+b") as file:
                    os.posix_fallocate(file.fileno(), 0, path.stat().st_size)
        except OSError:
            path.unlink(missing_ok=True)
            raise
    return array
