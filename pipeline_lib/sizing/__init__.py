"""How large a run is: bytes and GPU hours of every stage from counts, settings and rates, before anything is run."""
