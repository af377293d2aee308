"""Where a task runs, and with what: the profile, applied to a task."""

from kfp import kubernetes
from kfp.dsl.pipeline_task import PipelineTask

from components.base import places
from components.base.variables import REQUIRE_GPU
from components.kubeflow.pod import RUN_ID
from components.params.kubeflow import KubeflowParams, StepProfile

QUEUE = "kueue.x-k8s.io/queue-name"
"""Kueue's label of a pod: the local queue that admits it."""
_TELLING_MLFLOW = ("train", "register", "promote", "notify")


def place(task: PipelineTask, profile: KubeflowParams, name: str, keys_of: str = "") -> PipelineTask:
    """Give a task its resources, places, credentials and limits.

    Args:
        task: the task.
        profile: where the steps run.
        name: of the step, `train.vgg16`, as in `kubeflow.steps`.
        keys_of: the step whose places and keys it gets; by default its own.

    Kubeflow's API server adds the rest of the *restricted* Pod Security Standard to every pod: no more privileges, all
    capabilities dropped, the runtime's seccomp profile.
    """
    step = profile.step(name)
    _resources(task, step)
    _environment(task, profile, keys_of or name.partition(".")[0])
    kubernetes.set_security_context(task, run_as_user=profile.user, run_as_group=profile.user, run_as_non_root=True)
    kubernetes.set_image_pull_policy(task, profile.pull_policy)
    if profile.pull_secrets:
        kubernetes.set_image_pull_secrets(task, list(profile.pull_secrets))
    for key, value in (profile.labels | ({QUEUE: profile.queue} if profile.queue else {})).items():
        kubernetes.add_pod_label(task, key, value)
    kubernetes.set_timeout(task, step.minutes * 60)
    if step.retries:
        task.set_retry(
            num_retries=step.retries,
            backoff_duration=f"{step.backoff_seconds}s",
            backoff_factor=2,
            # In Argo this limits the time from the first attempt to the last, not a pause. The run's limit suffices.
            backoff_max_duration=f"{profile.hours * 3600}s",
        )
    return task


def _resources(task: PipelineTask, step: StepProfile) -> None:
    # Request and limit are equal, so that a full node evicts other pods first.
    task.set_cpu_request(step.cpu_request or step.cpu).set_cpu_limit(step.cpu)
    task.set_memory_request(step.memory).set_memory_limit(step.memory)
    if step.gpus:
        task.set_accelerator_type(step.gpu_type).set_accelerator_limit(step.gpus)
        task.set_env_variable(REQUIRE_GPU, "1")
    if step.shared_memory:
        kubernetes.empty_dir_mount(task, "shm", "/dev/shm", medium="Memory", size_limit=step.shared_memory)  # noqa: S108 - the kernel's place
    for key, value in step.node_selector.items():
        kubernetes.add_node_selector(task, key, value)
    for toleration in step.tolerations:
        kubernetes.add_toleration(task, **toleration.model_dump())


def _environment(task: PipelineTask, profile: KubeflowParams, step: str) -> None:
    """Mount places and keys, which `mura` reads when it starts. The id of the run is a variable of our own.

    Steps that tell MLflow nothing have no use for it, and it would take a kilobyte of the run's state for each.
    """
    for source in profile.environment:
        if source.is_for(step):
            mount = kubernetes.use_secret_as_volume if source.secret else kubernetes.use_config_map_as_volume
            mount(task, source.name, f"{places.ROOT}/{source.name}", optional=source.optional)
    if step in _TELLING_MLFLOW:
        kubernetes.use_field_path_as_env(task, RUN_ID, "metadata.labels['pipeline/runid']")
