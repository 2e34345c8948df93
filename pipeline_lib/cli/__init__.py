"""`prefalign`: the chain from preference pairs to an evaluated model, as a command line that needs no server."""

from pipeline_lib.cli.app import main

__all__ = ["main"]
