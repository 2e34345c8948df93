"""Prompts and models to images: for evaluation, for samples, and for whoever loads a registered model."""
