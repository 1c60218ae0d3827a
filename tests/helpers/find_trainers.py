"""Looks trainers up as nnUNetv2_train and nnUNetv2_predict do. Run in a small environment; the last line is JSON.

python find_trainers.py FOLDER_OF_A_USER NAME...
"""

import json
import os
import sys

import nnunet_partial.dataset_conversion
import nnunetv2
from nnunetv2.utilities.find_objects import recursive_find_trainer_class_by_name

import nnunet_partial

if __name__ == "__main__":
    folder, *names = sys.argv[1:]
    os.environ["nnUNet_extTrainer"] = folder + os.pathsep + os.environ["nnUNet_extTrainer"]
    found = {name: recursive_find_trainer_class_by_name(name) for name in names}
    packages = (nnunetv2, nnunet_partial, nnunet_partial.dataset_conversion)
    result = {
        "bases": {name: [base.__module__ for base in trainer.__mro__] for name, trainer in found.items()},
        "files": {package.__name__: package.__file__ for package in packages},
    }
    print(json.dumps(result))
