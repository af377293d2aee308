"""Where and with what Kubeflow Pipelines runs the steps. Clusters differ only in these values."""

from collections import Counter
from typing import Annotated, Literal, Self

from pydantic import Field, model_validator

from components.base.places import NAME
from components.base.step import STEPS
from components.params.section import Section

# Kubernetes' names (RFC 1123) and quantities, as far as they are needed here.
_NAME = r"^[a-z0-9]([-a-z0-9.]*[a-z0-9])?$"
# The name of a secret or config map that is mounted becomes that of a volume, which may have no dot.
_VOLUME = r"^[a-z0-9]([-a-z0-9]{0,61}[a-z0-9])?$"
_VARIABLE = rf"^{NAME.pattern}$"
# Volumes of the pods that Kubeflow and `shared_memory` make.
_SCRATCH = ("gcs", "s3", "minio", "oci", "dot-local", "dot-cache", "dot-config")
_TAKEN = ("shm", "kfp-launcher", "kfp-workspace", "ca-bundle", "ca-cert", *(f"{each}-scratch" for each in _SCRATCH))
READERS = (*STEPS, "notify")
"""Steps that can be given places and keys."""
_QUANTITY = r"^[0-9]+(\.[0-9]+)?(m|k|M|G|T|Ki|Mi|Gi|Ti)?$"


class EnvironmentSource(Section):
    """A secret or a config map. It is mounted, and `mura` sets its keys as variables where they are not set."""

    secret: str | None = Field(default=None, pattern=_VOLUME, description="Name of the secret")
    config_map: str | None = Field(default=None, pattern=_VOLUME, description="Name of the config map")
    keys: tuple[Annotated[str, Field(pattern=_VARIABLE)], ...] = Field(
        min_length=1, description="Keys, which are also the variables' names"
    )
    optional: bool = Field(default=False, description="Whether the step starts without it")
    steps: tuple[str, ...] = Field(default=(), description="The steps that get it; without any, all")

    @model_validator(mode="after")
    def _one_source(self) -> Self:
        if (self.secret is None) == (self.config_map is None):
            raise ValueError("expected either `secret` or `config_map`")
        if self.name in _TAKEN:
            raise ValueError(f"{self.name} is a name of a volume of Kubeflow's own: give it another name")
        if unknown := set(self.steps) - set(READERS):
            raise ValueError(f"steps: expected {', '.join(READERS)}, found {', '.join(sorted(unknown))}")
        return self

    @property
    def name(self) -> str:
        """Name of the secret or config map, and of the volume."""
        return str(self.secret or self.config_map)

    def is_for(self, step: str) -> bool:
        """Whether a step gets it."""
        return not self.steps or step in self.steps


class Toleration(Section):
    """A taint of a node that the step tolerates."""

    key: str | None = None
    operator: Literal["Exists", "Equal"] = "Exists"
    value: str | None = None
    effect: Literal["NoSchedule", "PreferNoSchedule", "NoExecute"] | None = None


class StepProfile(Section):
    """The resources of one step. A value is taken from the step, else from `default`, else from this class."""

    cpu: str = Field(default="1", pattern=_QUANTITY, description="Cores at most, and requested")
    cpu_request: str | None = Field(
        default=None, pattern=_QUANTITY, description="Cores requested, if fewer than `cpu` may be free"
    )
    memory: str = Field(default="2Gi", pattern=_QUANTITY, description="Memory, requested and at most")
    gpus: int = Field(default=0, ge=0, description="Accelerators; with any, the image of the GPU build is used")
    gpu_type: str = Field(default="nvidia.com/gpu", min_length=1, description="Resource name of the accelerator")
    shared_memory: str | None = Field(default=None, pattern=_QUANTITY, description="Size of /dev/shm")
    minutes: int = Field(default=60, gt=0, description="Time limit of the pod")
    retries: int = Field(default=0, ge=0, description="Further attempts after a failure")
    backoff_seconds: int = Field(default=30, ge=0, description="Before a retry; doubled each time")
    node_selector: dict[str, str] = Field(default={}, description="Labels that the node must have")
    tolerations: tuple[Toleration, ...] = Field(default=(), description="Taints of nodes that the step tolerates")


class KubeflowParams(Section):
    """Where and with what Kubeflow Pipelines runs the steps. Clusters differ only in these values."""

    experiment: str = Field(min_length=1, description="The runs are listed under it")
    image: str = Field(
        pattern=r"^[a-z0-9][A-Za-z0-9._:/-]*(@sha256:[0-9a-f]{64})?$",
        description="Where the images are, registry/mura; the tag follows from code and lock. An image with a tag or "
        "a digest is taken as it is, for all steps",
    )
    pull_policy: Literal["Always", "IfNotPresent", "Never"] = Field(description="When the node pulls the image")
    pull_secrets: tuple[str, ...] = Field(default=(), description="Secrets for the registry")
    service_account: str | None = Field(default=None, pattern=_NAME, description="Runs the pods; else Kubeflow's own")
    user: int = Field(gt=0, description="Numeric user and group of the steps; never root")
    labels: dict[str, str] = Field(default={}, description="Labels of the pods, for accounting or network policies")
    queue: str | None = Field(default=None, pattern=_VOLUME, description="Kueue's local queue, which admits the pods")
    environment: tuple[EnvironmentSource, ...] = Field(description="Places and credentials: secrets and config maps")
    keep_hours: int = Field(
        gt=0,
        description="How long the finished workflow's pods and logs stay on the cluster. "
        "At most a day where Kubeflow's persistence agent keeps its own TTL_SECONDS_AFTER_WORKFLOW_FINISH, 86400",
    )
    hours: int = Field(gt=0, description="Time limit of the whole run")
    shards: Literal["artifact", "workspace"] = Field(
        description="How shards reach the trainings: as Kubeflow's artifact, which each pod downloads, or on a "
        "volume that all pods of the run mount"
    )
    workspace_size: str = Field(default="20Gi", pattern=_QUANTITY, description="Size of that volume")
    workspace_class: str | None = Field(default=None, description="Its storage class, ReadWriteMany; else the default")
    steps: dict[str, StepProfile] = Field(description="By step, `train.<candidate>` before `train`, and `default`")

    @model_validator(mode="after")
    def _each_once(self) -> Self:
        """A pod has each volume once, and each variable from one of them."""
        for step in READERS:
            given = [source for source in self.environment if source.is_for(step)]
            for what, names in (
                ("the name", [source.name for source in given]),
                ("the key", [key for source in given for key in source.keys]),
            ):
                if twice := [name for name, count in Counter(names).items() if count > 1]:
                    raise ValueError(f"`environment` gives {step} {what} {twice[0]} twice")
        return self

    def step(self, name: str) -> StepProfile:
        """The profile of a step, such as `shard`, or `train.vgg16`."""
        chosen: dict[str, object] = {}
        for key in ("default", name.partition(".")[0], name):
            if key in self.steps:
                chosen |= self.steps[key].model_dump(exclude_unset=True)
        return StepProfile.model_validate(chosen)
