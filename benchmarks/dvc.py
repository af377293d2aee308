"""What DVC takes for an archive as one zip, and for the same archive as loose files.

    python -m benchmarks.dvc [--images 1000] [--archive phantom.zip] [--json]

`dvc add`, `dvc push` to a directory on the same disk, `dvc pull` into a clone that has neither data nor cache, and a
`dvc repro` that finds nothing to do, for each. Start-up, about a second of every command, is in all of them. On S3
loose files lose more, since each is a request. `ratio` is the sum for loose files over the sum for the zip.
"""

import os
import shutil
import sys
import zipfile
from pathlib import Path
from typing import Any

from benchmarks import harness

OPERATIONS = ("add", "push", "pull", "repro, nothing to do")


def main() -> None:
    """Measure and print."""
    flags = harness.parser(__doc__ or "", images=1000).parse_args()
    with harness.archive(flags) as (path,), harness.folder() as here:
        # Where DVC keeps what it learned of files; the user's own would remember the last run.
        os.environ.update(DVC_SITE_CACHE_DIR=str(here / "site"), DVC_NO_ANALYTICS="1")
        one, loose = here / "one", here / "loose"
        for repository in (one, loose):
            _prepare(repository, here / f"{repository.name}-remote")
        shutil.copyfile(path, one / "data")
        with zipfile.ZipFile(path) as whole:
            files = len(whole.namelist())
            whole.extractall(loose / "data")
        images = len(harness.images_in(path))
        size = path.stat().st_size
        forms = {"one zip": measure(one), "loose files": measure(loose)}
    totals = {name: sum(used.seconds for used in times.values()) for name, times in forms.items()}
    result: dict[str, Any] = {
        "images": images,
        "files": files,
        "bytes": size,
        "seconds": {
            name: {what: round(used.seconds, 2) for what, used in each.items()} for name, each in forms.items()
        },
        "peak_bytes": {name: max(used.peak_bytes for used in each.values()) for name, each in forms.items()},
        "ratios": {
            what: round(forms["loose files"][what].seconds / forms["one zip"][what].seconds, 2) for what in OPERATIONS
        },
        "ratio": round(totals["loose files"] / totals["one zip"], 2),
    }
    head = ("seconds", *forms, "ratio")
    rows = [
        (f"dvc {what}", *(each[what].seconds for each in forms.values()), result["ratios"][what]) for what in OPERATIONS
    ]
    rows.append(("all four", *totals.values(), result["ratio"]))
    memory = ("peak memory", *(f"{peak / 1e6:.0f} MB" for peak in result["peak_bytes"].values()), "")
    harness.tell(result, f"{files:,} files, {size / 1e6:,.0f} MB", [head, *rows, memory], flags.json)


def measure(repository: Path) -> dict[str, harness.Used]:
    """What each operation takes on a repository whose data is not under DVC yet."""
    used = {"add": _dvc(repository, "add", "data")}
    _dvc(repository, "repro")
    used["repro, nothing to do"] = _dvc(repository, "repro")
    used["push"] = _dvc(repository, "push")
    shutil.rmtree(repository / ".dvc" / "cache")
    data = repository / "data"
    shutil.rmtree(data) if data.is_dir() else data.unlink()
    used["pull"] = _dvc(repository, "pull")
    return {what: used[what] for what in OPERATIONS}


def _prepare(repository: Path, remote: Path) -> None:
    (repository / ".dvc").mkdir(parents=True)
    (repository / ".dvc" / "config").write_text(
        "[core]\n    no_scm = true\n    analytics = false\n    check_update = false\n    remote = there\n"
        f"['remote \"there\"']\n    url = {remote}\n"
    )
    (repository / "dvc.yaml").write_text("stages:\n  look:\n    cmd: 'true'\n    deps: [data]\n")


def _dvc(repository: Path, *words: str) -> harness.Used:
    return harness.run([sys.executable, "-m", "dvc", words[0], "--quiet", *words[1:]], repository)


if __name__ == "__main__":
    main()
