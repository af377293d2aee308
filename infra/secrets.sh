#!/usr/bin/env bash
# Draws the secrets of the services once, into files that git ignores; those that are there stay: infra/secrets.sh
set -euo pipefail
cd "$(dirname "$0")/kustomize/secrets"

umask 077
draw() { python3 -c 'import secrets; print(secrets.token_hex(24))'; }

if [[ ! -e s3/drawn.env || ! -e servers/drawn.json ]]; then
    key=$(draw | cut -c 1-20)
    secret=$(draw)
    printf 'AWS_ACCESS_KEY_ID=%s\nAWS_SECRET_ACCESS_KEY=%s\n' "$key" "$secret" >s3/drawn.env
    printf '{"identities": [{"name": "mura", "credentials": [{"accessKey": "%s", "secretKey": "%s"}], ' "$key" "$secret" \
        >servers/drawn.json
    printf '"actions": ["Admin", "Read", "Write", "List", "Tagging"]}]}\n' >>servers/drawn.json
fi
[[ -e servers/drawn.env ]] || printf 'POSTGRES_PASSWORD=%s\n' "$(draw)" >servers/drawn.env
