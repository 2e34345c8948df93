"""How a training run is started, followed, stopped and published; what it computes lies beside this package."""
