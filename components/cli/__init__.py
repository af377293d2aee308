"""The command line `mura`.

cli/
    main.py         the root command, its exit codes, and commands that other packages add
    steps.py        a command for each step, read from its signature
    tools.py        the other commands: phantom, import, remote, shards, bench, summary, code, doctor, notify
    group.py        lists of commands with whole sentences
    doctor.py       `mura doctor`: can this installation do the work?
    summary.py      `mura summary`: the last promotion
"""
