#!/usr/bin/env bash
# An image and its bill of materials: infra/image.sh cpu|gpu|serve, or make image HARDWARE=...
#
#   IMAGE        registry and name [localhost/mura]; the tag follows from code and lock
#   BASE_IMAGE   what it stands on [see the Containerfile]; localhost/mura-base:bookworm is what `make base-image` makes
#   INDEX_URL    a mirror of the Python package index
#   CA_BUNDLE    certificates that the index or its mirror is proven with, if not the base image's
#   ENGINE       podman or docker [what is there]
#   REBUILD=1    build all of it anew, and fail if the result is another
set -euo pipefail
cd "$(dirname "$0")/.."

hardware=${1:?cpu, gpu or serve}
engine=${ENGINE:-$(command -v podman || command -v docker)} || { echo "Neither podman nor docker is here." >&2; exit 2; }
read -r tag revision < <("${PYTHON:-.venv/bin/python}" -m pipelines.graph.image_names "$hardware")
image=${IMAGE:-localhost/mura}:$tag
bill=build/sbom-$tag.cdx.json

id() { "$engine" image inspect --format '{{.Id}}' "$image" 2>/dev/null || true; }

# The same files committed anew are of another revision: the last layer's label, made again in seconds.
of=$("$engine" image inspect --format '{{index .Config.Labels "org.opencontainers.image.revision"}}' "$image" 2>/dev/null || true)
before=$(id)
if [[ $of != "$revision" || -n ${REBUILD:-} ]]; then
    options=(--file infra/Containerfile --target "$hardware" --tag "$image" --network host)
    options+=(--build-arg "CODE_REVISION=$revision")
    [[ -z ${BASE_IMAGE:-} ]] || options+=(--build-arg "BASE_IMAGE=$BASE_IMAGE")
    [[ -z ${INDEX_URL:-} ]] || options+=(--build-arg "INDEX_URL=$INDEX_URL")
    [[ -z ${CA_BUNDLE:-} ]] || options+=(--secret "id=ca,src=$CA_BUNDLE")
    [[ -z ${REBUILD:-} ]] || options+=(--no-cache)
    # 1980: the time of a build tells nothing if it can be repeated, and would make another image of the same files.
    [[ $engine != *podman ]] || options+=(--timestamp 315532800)
    "$engine" build "${options[@]}" .
    if [[ $of == "$revision" && $(id) != "$before" ]]; then
        echo "error: $image was $before and is now $(id): the build cannot be repeated." >&2
        exit 1
    fi
fi
mkdir -p build
"${PYTHON:-.venv/bin/python}" -m infra.sbom "$engine" "$image" "$bill"
echo "$image"
echo "  $(id)"
"$engine" image inspect --format '{{.Size}}' "$image" | awk '{ printf "  %.2f GB uncompressed\n", $1 / 1e9 }'
echo "  bill of materials: $bill"
