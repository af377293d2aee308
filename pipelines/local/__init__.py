"""The compiled pipeline in containers of this machine.

local/
    local_run.py    run the whole pipeline through kfp.local
    containers.py   run one container and report its exit code
"""
