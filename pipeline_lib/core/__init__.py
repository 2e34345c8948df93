"""What every stage rests on: the store, keys and lineage, settings, errors, registries, files and addresses."""
