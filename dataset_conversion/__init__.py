"""Convert public echo datasets, and the user's own, to nnU-Net datasets with a manifest of who annotated what."""

from __future__ import annotations

from .base import DataSet
from .camus import Camus
from .cardiac_chambers import CardiacNet, CardiacUDA, EchoCP
from .echonet import EchoNetDynamic
from .echonet_pediatric import EchoNetPediatric
from .folder import OwnFolder
from .hmc_qu import HmcQu
from .ted import Ted
from .unity import Unity

#: Every converter of `nnunet_partial convert NAME`. A new one is a subclass of DataSet and a line here.
DATASETS: dict[str, type[DataSet]] = {
    dataset.name: dataset
    for dataset in (
        Camus,
        EchoNetDynamic,
        EchoNetPediatric,
        CardiacUDA,
        EchoCP,
        CardiacNet,
        HmcQu,
        Ted,
        Unity,
        OwnFolder,
    )
}
