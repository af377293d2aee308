"""The restricted Pod Security Standard, checked on a pod's specification as it is applied.

What it demands is from https://kubernetes.io/docs/concepts/security/pod-security-standards/ (restricted, which includes
baseline), for Linux pods.
"""

from collections.abc import Iterator, Mapping
from typing import Any

VOLUMES = {
    "configMap",
    "csi",
    "downwardAPI",
    "emptyDir",
    "ephemeral",
    "persistentVolumeClaim",
    "projected",
    "secret",
}
SYSCTLS = {
    "kernel.shm_rmid_forced",
    "net.ipv4.ip_local_port_range",
    "net.ipv4.ip_unprivileged_port_start",
    "net.ipv4.tcp_syncookies",
    "net.ipv4.ping_group_range",
    "net.ipv4.ip_local_reserved_ports",
    "net.ipv4.tcp_keepalive_time",
    "net.ipv4.tcp_fin_timeout",
    "net.ipv4.tcp_keepalive_intvl",
    "net.ipv4.tcp_keepalive_probes",
    "net.ipv4.tcp_rmem",
    "net.ipv4.tcp_wmem",
}
SELINUX_TYPES = {"", "container_t", "container_init_t", "container_kvm_t", "container_engine_t"}


def violations(pod: Mapping[str, Any]) -> list[str]:
    """What the standard forbids in a pod's specification, in words; empty if it passes.

    Args:
        pod: the `spec` of a Pod, or of a template of pods.
    """
    return [*_of_the_pod(pod), *(each for name, one in _containers(pod) for each in _of_a_container(name, one, pod))]


def pods(manifest: Mapping[str, Any]) -> Iterator[tuple[str, Mapping[str, Any]]]:
    """Every pod specification in a manifest, however deep, with its path."""
    found = list(_walk(manifest, manifest.get("kind", "?")))
    yield from found


def _walk(node: Any, path: str) -> Iterator[tuple[str, Mapping[str, Any]]]:
    if isinstance(node, list):
        for index, each in enumerate(node):
            yield from _walk(each, f"{path}[{index}]")
    elif isinstance(node, Mapping):
        containers = node.get("containers")
        if isinstance(containers, list) and all(isinstance(each, Mapping) for each in containers):
            yield path, node
        for key, each in node.items():
            yield from _walk(each, f"{path}.{key}")


def _containers(pod: Mapping[str, Any]) -> Iterator[tuple[str, Mapping[str, Any]]]:
    for kind in ("initContainers", "containers", "ephemeralContainers"):
        for one in pod.get(kind) or ():
            yield one.get("name", "?"), one


def _of_the_pod(pod: Mapping[str, Any]) -> Iterator[str]:
    for name in ("hostNetwork", "hostPID", "hostIPC"):
        if pod.get(name):
            yield f"{name} is true"
    for volume in pod.get("volumes") or ():
        for kind in set(volume) - {"name"} - VOLUMES:
            yield f"volume {volume['name']} is of kind {kind}"
    context = pod.get("securityContext") or {}
    if context.get("runAsUser") == 0:
        yield "the pod runs as user 0"
    if context.get("runAsNonRoot") is False:
        yield "the pod says runAsNonRoot: false"
    for sysctl in context.get("sysctls") or ():
        if sysctl["name"] not in SYSCTLS:
            yield f"sysctl {sysctl['name']}"
    yield from _of_any_context("the pod", context)


def _of_a_container(name: str, container: Mapping[str, Any], pod: Mapping[str, Any]) -> Iterator[str]:
    own = container.get("securityContext") or {}
    shared = pod.get("securityContext") or {}
    if own.get("privileged"):
        yield f"{name} is privileged"
    if own.get("allowPrivilegeEscalation") is not False:
        yield f"{name} does not say allowPrivilegeEscalation: false"
    capabilities = own.get("capabilities") or {}
    if "ALL" not in (capabilities.get("drop") or ()):
        yield f"{name} does not drop ALL capabilities"
    for each in set(capabilities.get("add") or ()) - {"NET_BIND_SERVICE"}:
        yield f"{name} adds the capability {each}"
    if own.get("runAsNonRoot", shared.get("runAsNonRoot")) is not True:
        yield f"{name} does not run with runAsNonRoot: true"
    if own.get("runAsUser") == 0:
        yield f"{name} runs as user 0"
    profile = (own.get("seccompProfile") or shared.get("seccompProfile") or {}).get("type")
    if profile not in ("RuntimeDefault", "Localhost"):
        yield f"{name} has the seccomp profile {profile}"
    if own.get("procMount", "Default") != "Default":
        yield f"{name} has procMount {own['procMount']}"
    for port in container.get("ports") or ():
        if port.get("hostPort"):
            yield f"{name} takes the host's port {port['hostPort']}"
    for hook in ("livenessProbe", "readinessProbe", "startupProbe"):
        probe = container.get(hook) or {}
        if any((probe.get(kind) or {}).get("host") for kind in ("httpGet", "tcpSocket")):
            yield f"{name} probes a host of its own choice"
    yield from _of_any_context(name, own)


def _of_any_context(name: str, context: Mapping[str, Any]) -> Iterator[str]:
    selinux = context.get("seLinuxOptions") or {}
    if selinux.get("type", "") not in SELINUX_TYPES or selinux.get("user") or selinux.get("role"):
        yield f"{name} chooses SELinux options"
    if (context.get("appArmorProfile") or {}).get("type", "RuntimeDefault") not in ("RuntimeDefault", "Localhost"):
        yield f"{name} has no AppArmor profile"
    if (context.get("windowsOptions") or {}).get("hostProcess"):
        yield f"{name} is a host process"
