"""What JobSet's own webhook refuses, checked on a specification before it is applied. Its schema allows all of it.

From pkg/webhooks/jobset_webhook.go and the CEL rules of api/jobset/v1alpha2/jobset_types.go, JobSet 0.12, with its
feature gates as they are by default.
"""

import re
from collections import Counter
from collections.abc import Iterator, Mapping, Sequence
from typing import Any

RULE_NAME = re.compile(r"[A-Za-z]([A-Za-z0-9_,:]*[A-Za-z0-9_])?")
LONGEST_RULE_NAME = 128
ACTIONS = {"FailJobSet", "RestartJobSet", "RestartJobSetAndIgnoreMaxRestarts"}
"""`RestartJob` and `RestartJobAndIgnoreMaxRestarts` need a feature gate that is off."""
STRATEGIES = {"Recreate", "BlockingRecreate"}
"""`InPlaceRestart` needs a feature gate that is off."""
JOB_FAILURE_REASONS = {
    "BackoffLimitExceeded", "DeadlineExceeded", "FailedIndexes", "MaxFailedIndexesExceeded", "PodFailurePolicy"
}  # fmt: skip
DNS_LABEL = re.compile(r"[a-z]([-a-z0-9]*[a-z0-9])?")
SUBDOMAIN = re.compile(r"[a-z0-9]([-a-z0-9]*[a-z0-9])?(\.[a-z0-9]([-a-z0-9]*[a-z0-9])?)*")
LABEL_VALUE = re.compile(r"([A-Za-z0-9]([-A-Za-z0-9_.]*[A-Za-z0-9])?)?")
LONGEST_LABEL = 63
LARGEST_INT32 = 2**31 - 1
MOST_DEPENDENCIES = 5


def faults(name: str, spec: Mapping[str, Any]) -> list[str]:
    """What JobSet would refuse, in words; empty if it takes all of it.

    Args:
        name: of the JobSet; a TrainJob gives its own.
        spec: its specification, as in `spec.template.spec` of a TrainingRuntime.
    """
    jobs = spec.get("replicatedJobs") or []
    names = [job["name"] for job in jobs]
    found = [f"two replicated jobs are called {each}" for each, count in Counter(names).items() if count > 1]
    for place, job in enumerate(jobs):
        found += _of_a_job(name, job, names[:place])
    found += _targets("successPolicy", spec.get("successPolicy"), names)
    operator = (spec.get("successPolicy") or {}).get("operator", "All")
    if operator not in ("All", "Any"):
        found.append(f"successPolicy: operator {operator}")
    order = (spec.get("startupPolicy") or {}).get("startupPolicyOrder", "AnyOrder")
    if order not in ("AnyOrder", "InOrder"):
        found.append(f"startupPolicy: order {order}")
    if order == "InOrder" and any("dependsOn" in job for job in jobs):
        found.append("startupPolicy InOrder and dependsOn exclude each other")
    if spec.get("failurePolicy"):
        found += _of_failures(spec["failurePolicy"], names)
    return [*found, *_of_network(name, spec, jobs), *_of_the_rest(spec, jobs)]


def _of_a_job(name: str, job: Mapping[str, Any], before: Sequence[str]) -> Iterator[str]:
    replicas, template = job.get("replicas", 1), job["template"]["spec"]
    if replicas * template.get("parallelism", 1) > LARGEST_INT32:
        yield f"{job['name']}: too many pods"
    longest = f"{name}-{job['name']}-{replicas - 1}"
    yield from _label(longest, "a Job's name")
    # JobSet makes a Job indexed that does not say what it is.
    if template.get("completionMode", "Indexed") == "Indexed" and "completions" in template:
        yield from _label(f"{longest}-{template['completions'] - 1}-abcde", "a pod's name")
    yield from _label(job.get("groupName", "default"), "a group's name")
    depends = job.get("dependsOn")
    if depends is None:
        return
    if not before:
        yield f"{job['name']}: the first replicated job can depend on no other"
    if len(depends) > MOST_DEPENDENCIES:
        yield f"{job['name']}: depends on more than {MOST_DEPENDENCIES}"
    for each in depends:
        if each["name"] not in before:
            yield f"{job['name']}: depends on {each['name']}, which does not come before it"
        if each["status"] not in ("Ready", "Complete"):
            yield f"{job['name']}: depends on the status {each['status']}"


def _of_failures(policy: Mapping[str, Any], names: Sequence[str]) -> Iterator[str]:
    rules = policy.get("rules") or []
    if policy.get("restartStrategy", "Recreate") not in STRATEGIES:
        yield f"failurePolicy: restart strategy {policy['restartStrategy']}"
    given = Counter(rule["name"] for rule in rules if rule.get("name"))
    yield from (f"two rules are called {each}" for each, count in given.items() if count > 1)
    for place, rule in enumerate(rules):
        name = rule.get("name") or f"failurePolicyRule{place}"
        if not RULE_NAME.fullmatch(name) or len(name) > LONGEST_RULE_NAME:
            yield f"failurePolicy: {name} is no name of a rule: letters, digits, _ , : only"
        if rule.get("action") not in ACTIONS:
            yield f"failurePolicy, {name}: action {rule.get('action')}"
        for reason in set(rule.get("onJobFailureReasons") or ()) - JOB_FAILURE_REASONS:
            yield f"failurePolicy, {name}: reason {reason}"
        for pattern in rule.get("onJobFailureMessagePatterns") or ():
            try:
                re.compile(pattern)
            except re.error:
                yield f"failurePolicy, {name}: pattern {pattern}"
        yield from _targets(f"failurePolicy, {name}", rule, names)


def _of_network(name: str, spec: Mapping[str, Any], jobs: Sequence[Mapping[str, Any]]) -> Iterator[str]:
    """The service that all pods share has the JobSet's name, or this one; the coordinator is found by it."""
    subdomain = (spec.get("network") or {}).get("subdomain") or name
    yield from _label(subdomain, "the subdomain")
    coordinator = spec.get("coordinator")
    if not coordinator:
        return
    replicated, job, pod = (
        coordinator["replicatedJob"], coordinator.get("jobIndex", 0), coordinator.get("podIndex", 0)
    )  # fmt: skip
    of = next((each for each in jobs if each["name"] == replicated), None)
    if of is None:
        yield f"coordinator: no replicated job {replicated}"
        return
    template = of["template"]["spec"]
    if not 0 <= job < of.get("replicas", 1):
        yield f"coordinator: no job {job} of {replicated}"
    if template.get("completionMode", "Indexed") != "Indexed" or "completions" not in template:
        yield f"coordinator: {replicated} must be indexed and say its completions"
    elif not 0 <= pod < template["completions"]:
        yield f"coordinator: no pod {pod} of {replicated}"
    endpoint = f"{name}-{replicated}-{job}-{pod}.{subdomain}"
    if not LABEL_VALUE.fullmatch(endpoint) or len(endpoint) > LONGEST_LABEL:
        yield f"coordinator: {endpoint} is no value of a label"


def _of_the_rest(spec: Mapping[str, Any], jobs: Sequence[Mapping[str, Any]]) -> Iterator[str]:
    manager = spec.get("managedBy")
    if manager is not None:
        domain, _, path = manager.partition("/")
        if not SUBDOMAIN.fullmatch(domain) or not path or len(manager) > LONGEST_LABEL:
            yield f"managedBy: {manager} is no path with a domain, of at most {LONGEST_LABEL} characters"
    if spec.get("ttlSecondsAfterFinished", 0) < 0:
        yield "ttlSecondsAfterFinished is negative"
    pods = [job["template"]["spec"]["template"]["spec"] for job in jobs]
    mounted = {
        mount["name"]
        for pod in pods
        for container in (*pod.get("initContainers", ()), *pod["containers"])
        for mount in container.get("volumeMounts", ())
    }
    volumes = {volume["name"] for pod in pods for volume in pod.get("volumes", ())}
    claims = [
        claim["metadata"]["name"] for policy in spec.get("volumeClaimPolicies") or () for claim in policy["templates"]
    ]
    for claim, count in Counter(claims).items():
        if count > 1 or claim in volumes or claim not in mounted or not SUBDOMAIN.fullmatch(claim):
            yield f"volumeClaimPolicies: {claim} is twice, a volume of its own, no name, or mounted nowhere"


def _targets(of: str, policy: Mapping[str, Any] | None, names: Sequence[str]) -> Iterator[str]:
    for target in (policy or {}).get("targetReplicatedJobs") or ():
        if target not in names:
            yield f"{of}: no replicated job {target}"


def _label(name: str, what: str) -> Iterator[str]:
    """What is wrong with a name that becomes a label of DNS (RFC 1035)."""
    if not DNS_LABEL.fullmatch(name):
        yield f"{what} is {name}: small letters, digits and - only"
    if len(name) > LONGEST_LABEL:
        yield f"{what} is {name}, of {len(name)} characters: at most {LONGEST_LABEL}"
