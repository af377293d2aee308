#!/usr/bin/env bash
# An overlay as it is applied, with the image of this code: infra/render.sh kind | kubectl apply -f -
#
#   infra/render.sh kind | cluster | serving | team [IMAGE]
set -euo pipefail
cd "$(dirname "$0")/.."

name=${1:?kind, cluster, serving or team}
image=${2:-${IMAGE:-localhost/mura}:$("${PYTHON:-.venv/bin/python}" -m pipelines.graph.image_names cpu | cut -d ' ' -f 1)}
kubectl=$(command -v .venv/bin/kubectl || command -v kubectl)
folder=infra/kustomize/overlays/$name
[[ -d $folder ]] || folder=infra/kustomize/$name
[[ $name == serving || $name == team ]] || infra/secrets.sh
"$kubectl" kustomize "$folder" | sed "s|^\( *\(- \)\?image:\) mura$|\1 $image|"
