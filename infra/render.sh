#!/usr/bin/env bash
# What is applied, with the image of this code: infra/render.sh kind | kubectl apply -f -
#
#   infra/render.sh kind | cluster | volume | team | job [IMAGE]
#   infra/render.sh serving [IMAGE [IMAGE OF THE SERVER]]
#   infra/render.sh team/job.yaml                                            a TrainJob
#
# A Job gets as many pods as params.yaml has candidates. With `kubeflow.queue` in params.yaml, Job and TrainJob wait in
# that queue of Kueue.
set -euo pipefail
cd "$(dirname "$0")/.."

name=${1:?kind, cluster, serving, volume, team, job or team/job.yaml}
python=${PYTHON:-$(command -v .venv/bin/python || command -v python3)}
kubectl=$(command -v .venv/bin/kubectl || command -v kubectl)
place=infra/kustomize/overlays/$name
[[ -e $place ]] || place=infra/kustomize/$name
case $name in kind | cluster) infra/secrets.sh ;; esac

if [[ -f $place ]]; then
    manifests=$(<"$place")
else
    image=${2:-${IMAGE:-localhost/mura}:$("$python" -m pipelines.graph.image_names cpu | cut -d ' ' -f 1)}
    manifests=$("$kubectl" kustomize "$place" | sed "s|^\( *\(- \)\?image:\) mura$|\1 $image|")
    if [[ $name == serving ]]; then
        serving=${3:-${IMAGE:-localhost/mura}:$("$python" -m pipelines.graph.image_names serve | cut -d ' ' -f 1)}
        manifests=$(sed "s|^\( *\(- \)\?image:\) mura-serve$|\1 $serving|" <<<"$manifests")
    fi
fi
case $name in
    job | */job.yaml)
        read -r candidates queue < <("$python" -c '
import yaml
params = yaml.safe_load(open("params.yaml", encoding="utf-8"))
print(len(params["train"]["candidates"]), params["kubeflow"].get("queue") or "")')
        manifests=$(sed "s|^  completions: .*|  completions: $candidates|" <<<"$manifests")
        [[ -z $queue ]] ||
            manifests=$("$kubectl" label --local --filename - --output yaml "kueue.x-k8s.io/queue-name=$queue" <<<"$manifests")
        ;;
esac
printf '%s\n' "$manifests"
