"""Settings of the locale that tests start processes with."""

import sys

# Python without UTF-8. It cannot start from an environment whose path it then cannot read, so there it has UTF-8.
ASCII_ONLY = {"LC_ALL": "C.UTF-8"}
if sys.prefix.isascii():
    ASCII_ONLY = {"LC_ALL": "POSIX", "PYTHONUTF8": "0", "PYTHONCOERCECLOCALE": "0"}
