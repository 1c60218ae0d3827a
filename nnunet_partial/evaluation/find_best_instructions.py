"""How to predict with what was found best: the commands, as text and as nnU-Net's inference_information.json."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from shlex import quote
from typing import Any

from nnunet_partial.evaluation.find_best_folders import Candidate
from nnunet_partial.evaluation.find_best_models import Trained
from nnunet_partial.utils.files import read_json


def information(
    dataset: str,
    folds: Sequence[int],
    models: Sequence[Trained],
    ensembles: bool,
    scores: Mapping[str, float],
    best: Candidate,
    postprocessed: float,
) -> dict[str, Any]:
    """The content of inference_information.json, with nnU-Net's keys."""
    return {
        "folds": list(folds),
        "dataset_name_or_id": dataset,
        "considered_models": [
            {"plans": model.plans, "configuration": model.configuration, "trainer": model.trainer} for model in models
        ],
        "ensembling_allowed": ensembles,
        "all_results": dict(scores),
        "best_model_or_ensemble": {
            "result_on_crossval_pre_pp": scores[best.name],
            "result_on_crossval_post_pp": postprocessed,
            "postprocessing_file": str(best.folder / "postprocessing.pkl"),
            "some_plans_file": str(best.folder / "plans.json"),
            "selected_model_or_models": [
                {"configuration": model.configuration, "trainer": model.trainer, "plans_identifier": model.plans}
                for model in best.members
            ],
        },
    }


def instructions(dataset: str, folds: Sequence[int], best: Candidate, processes: int, postprocessed: bool) -> str:
    """The commands from images to labels; INPUT_FOLDER and OUTPUT_FOLDER are the user's. `postprocessed`: whether a
    post-processing was chosen."""
    several = len(best.members) > 1
    lines = ["***Run inference like this:***", ""]
    outputs = []
    for number, model in enumerate(best.members, start=1):
        outputs.append(f"OUTPUT_FOLDER_MODEL_{number}" if several else "OUTPUT_FOLDER")
        lines += _prediction(dataset, folds, model, model.configuration, outputs[-1], several)
    if several:
        lines += ["", "***Then average the two:***", ""]
        lines.append(f"nnUNetv2_ensemble -i {' '.join(outputs)} -o OUTPUT_FOLDER -np {processes}")
    if postprocessed:
        lines += ["", "***Once inference is completed, run postprocessing like this:***", ""]
        steps, plans = (quote(str(best.folder / name)) for name in ("postprocessing.pkl", "plans.json"))
        lines.append(
            f"nnUNetv2_apply_postprocessing -i OUTPUT_FOLDER -o OUTPUT_FOLDER_PP -pp_pkl_file {steps} -np {processes} "
            f"-plans_json {plans}"
        )
    return "\n".join(lines) + "\n"


def _prediction(
    dataset: str, folds: Sequence[int], model: Trained, configuration: str, output: str, probabilities: bool
) -> list[str]:
    """One command; before it that of the lower stage, where the configuration is the second of a cascade."""
    lower = _previous_stage(read_json(model.folder / "plans.json")["configurations"], configuration)
    lines, more = [], ""
    if lower is not None:
        more = f" -prev_stage_predictions {output}_PREV_STAGE"
        lines = _prediction(dataset, folds, model, lower, f"{output}_PREV_STAGE", False)
    more += " --save_probabilities" if probabilities else ""
    chosen = " ".join(str(fold) for fold in folds)
    return [
        *lines,
        f"nnUNetv2_predict -d {dataset} -i INPUT_FOLDER -o {output} -f {chosen} -tr {model.trainer} "
        f"-c {configuration} -p {model.plans}{more}",
    ]


def _previous_stage(configurations: Mapping[str, Any], name: str) -> str | None:
    """The configuration whose predictions this one starts from; plans may say so in what they inherit from."""
    settings = configurations.get(name, {})
    if "previous_stage" in settings:
        return str(settings["previous_stage"])
    return _previous_stage(configurations, settings["inherits_from"]) if "inherits_from" in settings else None
