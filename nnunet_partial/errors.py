"""Errors that a user can act on: every message says what was found, what was expected and what to do next."""

from __future__ import annotations


class PartialLabelError(ValueError):
    """A mistake in the data or in the call that the user can mend; the parent of all errors of this package."""


class ManifestError(PartialLabelError):
    """partial_labels.json is missing, broken, or contradicts the data set it lies in."""


class SplitError(PartialLabelError):
    """splits_final.json would leak a patient into validation, or does not fit the data set."""


class ConversionError(PartialLabelError):
    """A source data set, or one case of it, cannot be converted."""


class DatasetError(PartialLabelError):
    """A nnU-Net data set folder is missing, ambiguous, incomplete or already there."""
