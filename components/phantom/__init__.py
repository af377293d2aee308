"""An archive that looks like MURA and holds nothing of it, drawn bone by bone from a seed."""
