"""NaN and infinite pixels in the NIfTI files of a source: ITK would read them as 0, of a mask as background."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pytest
from helpers.facts import says
from helpers.source_datasets import camus_view, drawn, still, write_nifti
from nnunet_partial.dataset_conversion.camus import Camus
from nnunet_partial.dataset_conversion.writer import convert

from nnunet_partial.dataset.check import check
from nnunet_partial.dataset.raw import RawDataset


@pytest.mark.parametrize("value", [np.nan, np.inf])
@pytest.mark.parametrize("spoilt", ["patient0001_2CH_ED.nii.gz", "patient0001_2CH_ED_gt.nii.gz"])
def test_the_case_is_named_and_the_rest_is_converted(spoilt: str, value: float, raw: Path, tmp_path: Path) -> None:
    folder = camus_view(tmp_path / "in", "patient0001")
    pixels = (drawn() if "_gt" in spoilt else still(10)).astype(np.float32)
    pixels[0, :3] = value
    write_nifti(folder / spoilt, pixels)

    report = convert(Camus(tmp_path / "in"), "Dataset501_CAMUS")

    ((case, reason),) = [(skipped.case, skipped.reason) for skipped in report.skipped]
    assert case == "camus_patient0001_2CH_ED"
    assert reason == says(f"{spoilt} cannot be read", "3 pixel(s)", "NaN or infinite")
    assert list(RawDataset(report.folder).label_files()) == ["camus_patient0001_2CH_ES"]
    assert check(report.folder).findings == {}
