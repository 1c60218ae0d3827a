"""What nnU-Net makes its libraries warn of where it trains, or imports its trainers, in the process of the tests.

Every other warning fails a test.
"""

from __future__ import annotations

import pytest

#: Its color maps, learning-rate scheduler and logger use what is about to be dropped.
WARNINGS_OF_NNUNET = [
    pytest.mark.filterwarnings("ignore::FutureWarning"),
    pytest.mark.filterwarnings("ignore::DeprecationWarning"),
    pytest.mark.filterwarnings("ignore:Detected call of `lr_scheduler.step:UserWarning"),
]
