"""Environment variables of this project that more than one module knows. Secrets and places of tools have their own."""

REQUIRE_GPU = "MURA_REQUIRE_GPU"
"""If set, TensorFlow must see a GPU. A pod that requested one has it: on the CPU the training would take days."""
CODE_REVISION = "MURA_CODE_REVISION"
"""The commit that an image was made of. An image has no repository."""
MEETING_SECONDS = "MURA_MEETING_SECONDS"
"""How long a worker of a training waits for the others to start. Machines of a cluster may start far apart."""
