"""Measures of reconstructions, classifiers, reports, generated images and language models."""
