"""Images, and how their containers are started."""

import json
import subprocess
import uuid
from pathlib import Path
from typing import Any, NamedTuple

ROOT = Path(__file__).parent.parent.parent
# As a cluster of the restricted Pod Security Standard would, and stricter: nothing may be written, nobody called.
STRICT = ("--read-only", "--tmpfs=/tmp", "--cap-drop=all", "--security-opt=no-new-privileges", "--network=none")


class Image(NamedTuple):
    """An image that is here."""

    engine: str
    reference: str

    def about(self) -> dict[str, Any]:
        """Its configuration."""
        told = subprocess.run([self.engine, "image", "inspect", self.reference], check=True, capture_output=True)
        found: dict[str, Any] = json.loads(told.stdout)[0]
        return found

    def run(
        self, *words: str, options: tuple[str, ...] = STRICT, program: str = "mura"
    ) -> "subprocess.CompletedProcess[str]":
        """Run a command in a container of its own."""
        # Not --rm: where podman cannot remove a container at once, that error takes the place of its exit code.
        name = f"mura-test-{uuid.uuid4().hex}"
        command = [self.engine, "run", f"--name={name}", *options, f"--entrypoint={program}", self.reference, *words]
        try:
            return subprocess.run(command, capture_output=True, text=True, timeout=600)
        finally:
            subprocess.run([self.engine, "rm", "--force", name], capture_output=True, timeout=60)
