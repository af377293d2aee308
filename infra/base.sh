#!/usr/bin/env bash
# A base image of Debian's packages and nothing else, where no registry can be reached: make base-image
#
# Needs root (or unshare), Debian's mmdebstrap, and podman or docker. The same packages make the same image.
#   MIRROR   where Debian's packages are, if not where apt finds them
set -euo pipefail
cd "$(dirname "$0")/.."

suite=bookworm
image=${BASE_IMAGE:-localhost/mura-base:$suite}
engine=${ENGINE:-$(command -v podman || command -v docker)}
export SOURCE_DATE_EPOCH=315532800 # 1980: times tell nothing of a build that can be repeated

if "$engine" image inspect "$image" >/dev/null 2>&1; then
    echo "$image is there"
    exit
fi

work=$(mktemp -d)
trap 'rm -rf "$work"' EXIT
mmdebstrap --quiet --variant=essential --hook-dir=/usr/share/mmdebstrap/hooks/merged-usr \
    --include=usr-is-merged,python3,python3-venv,ca-certificates,libstdc++6 \
    --aptopt='APT::Install-Recommends "false"' \
    --dpkgopt='path-exclude=/usr/share/doc/*' --dpkgopt='path-include=/usr/share/doc/*/copyright' \
    --dpkgopt='path-exclude=/usr/share/man/*' --dpkgopt='path-exclude=/usr/share/locale/*' \
    --customize-hook='rm -rf "$1"/var/log/* "$1"/var/cache/*' \
    "$suite" "$work/base.tar" ${MIRROR:+"$MIRROR"}
printf 'FROM scratch\nADD base.tar /\nCMD ["/bin/bash"]\n' >"$work/Containerfile"
if [[ $engine == *podman ]]; then repeatable=(--timestamp "$SOURCE_DATE_EPOCH"); else repeatable=(); fi
"$engine" build --quiet "${repeatable[@]}" --tag "$image" --file "$work/Containerfile" "$work" >/dev/null
echo "$image, $("$engine" image inspect --format '{{.Id}}' "$image")"
