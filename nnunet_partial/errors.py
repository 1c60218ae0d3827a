"""Define the errors that a user can act on: messages say what was found, what was expected and what to do next."""

from __future__ import annotations


class PartialLabelError(ValueError):
    """Report a mistake in the data or in the call that the user can fix; the parent of all errors of this package."""


def install_hint(extra: str) -> str:
    """Return how to install an optional part of this package.

    Args:
        extra: Its name in setup.py.

    Returns:
        The end of a sentence, such as an error message.
    """
    return f"install the extra {extra!r} of nnunet-partial (pip install '.[{extra}]' in its folder)"


class ManifestError(PartialLabelError):
    """Report that partial_labels.json is missing, broken, or contradicts its dataset."""


class SplitError(PartialLabelError):
    """Report that splits_final.json would leak a patient into validation, or does not fit the dataset."""


class ConversionError(PartialLabelError):
    """Report that a source dataset, or one case of it, cannot be converted."""


class DatasetError(PartialLabelError):
    """Report that the folder of an nnU-Net dataset is missing, ambiguous, incomplete or already exists."""
