"""Preference data of others as pairs: where it lies (`sources`), what is kept of it (`ingest`), and its images."""
