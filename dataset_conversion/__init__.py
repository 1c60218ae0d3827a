"""Public echo data sets, and one's own, become nnU-Net data sets that say who annotated what."""

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
