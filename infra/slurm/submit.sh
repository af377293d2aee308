#!/usr/bin/env bash
# Every candidate of params.yaml as a task of a Slurm array: infra/slurm/submit.sh OUT [OPTIONS OF SBATCH]
#
#   OUT         for the results, on a disk that all nodes have: OUT/model/NAME, OUT/evaluation/NAME
#   ARTIFACTS   what `dvc repro shard` made, on such a disk, too [artifacts]
#   MURA        the command that runs a step [mura]; in a container: "apptainer exec --nv mura.sif mura"
#
# As in: infra/slurm/submit.sh runs/first --gpus=1 --cpus-per-task=8 --mem=24G --time=12:00:00
# Options that are given last hold: --array=0-3%2 runs two at once, --array=2 only the third candidate.
# The same command again does what is left to do. Then, in the project's directory: mura collect OUT
set -euo pipefail

if (($# == 0)) || [[ $1 == -* ]]; then
    echo "error: expected OUT, a directory for the results: infra/slurm/submit.sh OUT [OPTIONS OF SBATCH]" >&2
    exit 2
fi
out=$1
shift
export ARTIFACTS=${ARTIFACTS:-artifacts}
# Without a server: a database on a shared disk is no place for many writers. `mura register` uploads the runs later.
export MLFLOW_TRACKING_URI=${MLFLOW_TRACKING_URI:-off}
candidates=("$ARTIFACTS"/settings/train/*.json)
if [[ ! -e ${candidates[0]} ]]; then
    echo "error: $ARTIFACTS/settings: no candidates. Run \`dvc repro shard\`, or set ARTIFACTS to the place of its results." >&2
    exit 2
fi
if ! command -v sbatch >/dev/null; then
    echo "error: sbatch: not found. Submit from a machine that has Slurm." >&2
    exit 5
fi
# Tasks may wait for days. What they use does not change meanwhile.
mkdir -p "$out/logs"
# The same ones are left alone: tasks of before that are at work compare them at their end.
if ! diff -r "$ARTIFACTS/settings" "$out/settings" >/dev/null 2>&1; then
    rm -rf "$out/.settings.partial"
    cp -r "$ARTIFACTS/settings" "$out/.settings.partial"
    rm -rf "$out/settings"
    mv "$out/.settings.partial" "$out/settings"
fi
exec sbatch --array="0-$((${#candidates[@]} - 1))" --output="$out/logs/%A_%a.log" "$@" "$(dirname "$0")/candidate.sbatch" "$out"
