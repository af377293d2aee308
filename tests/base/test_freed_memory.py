"""What a process has freed goes back to the operating system."""

import subprocess
import sys
from pathlib import Path

SCRIPT = """
from pathlib import Path
import numpy as np
from components.base import freed_memory

def resident():  # MB
    lines = Path("/proc/self/status").read_text().splitlines()
    return next(int(line.split()[1]) for line in lines if line.startswith("VmRSS:")) // 1000

# Blocks that the C library takes from its heap, and one behind them, which keeps the heap long.
blocks = [np.ones(8_000) for _ in range(4_000)]
last = np.ones(8_000)
del blocks
before = resident()
freed_memory.give_back()
print(before - resident(), last.sum())
"""


def test_what_lies_between_what_is_used_is_given_back() -> None:
    root = Path(__file__).parents[2]
    done = subprocess.run([sys.executable, "-c", SCRIPT], cwd=root, capture_output=True, text=True, check=True)
    fewer, kept = done.stdout.split()
    assert int(fewer) > 200, f"{fewer} MB of 256 were given back"
    assert float(kept) == 8_000
