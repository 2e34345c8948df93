"""How the pipeline runs: local stack, deployments, work pools and presets."""
