"""Public echo data sets, and one's own, become nnU-Net data sets that say who annotated what."""

from __future__ import annotations

from .camus import Camus
from .cardiacnet import CardiacNet
from .cardiacuda import CardiacUDA
from .data_set import DataSet
from .echocp import EchoCP
from .echonet import EchoNetDynamic
from .echonet_pediatric import EchoNetPediatric
from .hmc_qu import HmcQu
from .own_folder import OwnFolder
from .ted import Ted
from .unity import Unity

#: Every data set that `nnunet_partial convert NAME` knows. A new one is a subclass of DataSet and a line here.
DATASETS: dict[str, type[DataSet]] = {
    data_set.name: data_set
    for data_set in (
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
