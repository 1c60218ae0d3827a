"""What a study can compare: the losses and baselines, and the networks, by the names that stand in study.yaml."""

from __future__ import annotations

from dataclasses import dataclass


@dataclass(frozen=True)
class Method:
    """A trainer, and whether it sees the complete cases only."""

    trainer: str
    title: str
    complete_cases: bool = False


@dataclass(frozen=True)
class Architecture:
    """nnU-Net's planner and plans for a network, and what the trainers that bring it themselves are called.

    `patch_multiple`: the sides of its patch are multiples of it, whatever is planned.
    """

    planner: str
    plans: str
    trainer_suffix: str = ""
    only_3d: bool = False
    patch_multiple: int = 1


METHODS: dict[str, Method] = {
    "naive": Method("nnUNetTrainerNaive", "naive (unlabelled = background)"),
    "complete-cases": Method("nnUNetTrainerNaive", "complete cases only", complete_cases=True),
    "acce": Method("nnUNetTrainerACCE", "aCCE"),
    "acce-ignore": Method("nnUNetTrainerACCEIgnore", "aCCE, background ignored"),
    "abce": Method("nnUNetTrainerABCE", "aBCE"),
    "marginal": Method("nnUNetTrainerMarginal", "marginal"),
    "acce-label-dropout": Method("nnUNetTrainerACCELabelDropout", "aCCE + label dropout"),
    "abce-label-dropout": Method("nnUNetTrainerABCELabelDropout", "aBCE + label dropout"),
    "marginal-label-dropout": Method("nnUNetTrainerMarginalLabelDropout", "marginal + label dropout"),
}

DEFAULT_PLANS = "nnUNetPlans"
_DEFAULT = ("ExperimentPlanner", DEFAULT_PLANS)

ARCHITECTURES: dict[str, Architecture] = {
    "plain": Architecture(*_DEFAULT),
    "resenc-m": Architecture("nnUNetPlannerResEncM", "nnUNetResEncUNetMPlans"),
    "resenc-l": Architecture("nnUNetPlannerResEncL", "nnUNetResEncUNetLPlans"),
    "swin-unetr": Architecture(*_DEFAULT, trainer_suffix="SwinUNETR"),
    "primus-m": Architecture(*_DEFAULT, trainer_suffix="PrimusM", only_3d=True, patch_multiple=8),
}

#: The planner that makes each plans.
PLANNERS: dict[str, str] = {network.plans: network.planner for network in ARCHITECTURES.values()}
