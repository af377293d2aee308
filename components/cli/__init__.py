"""The command line `mura`.

cli/
    main.py         the root command, its exit codes, and commands that other packages add
    steps.py        a command for each step, read from its signature
    settings.py     what a stage of DVC uses, resolved when the run starts
    resolving.py    `mura settings`: from params.yaml to the settings of each stage
    collecting.py   `mura collect`: what tasks elsewhere made, taken into DVC's workspace
    lineage.py      whether a result was made of certain artifacts
    merge.py        `mura merge`: the whole of its parts
    tools.py        the other commands: phantom, import, remote, shards, bench, summary, settings, collect,
                    doctor, notify
    group.py        lists of commands with whole sentences
    doctor.py       `mura doctor`: can this installation do the work?
    doctor_mlflow.py, check.py    its questions about MLflow, and one line of its answer
    summary.py      `mura summary`: the last promotion
"""
