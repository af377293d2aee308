"""Environment variables of this project that more than one module knows. Secrets and places of tools have their own."""

REQUIRE_GPU = "MURA_REQUIRE_GPU"
"""If set, TensorFlow must see a GPU. A pod that requested one has it: on the CPU the training would take days."""
CODE_REVISION = "MURA_CODE_REVISION"
"""The commit that an image was made of. An image has no repository."""

EXPERIMENT = "DVC_EXP_NAME"
"""DVC's name of the experiment that this is, `dvc exp run`. An experiment changes no registry."""
