"""The command line `mura`.

cli/
    main.py         the root command, its exit codes, and commands that other packages add
    steps.py        a command for each step, read from its signature
    settings.py     what a stage of DVC uses, resolved when the run starts
    resolving.py    `mura settings`: from params.yaml to the settings of each stage
    collecting.py   `mura collect`: what tasks elsewhere made, taken into DVC's workspace
    lineage.py      whether a result was made of certain artifacts
    questions.py    what a step's flags ask in its place, such as `mura evaluate --archive`
    registry.py     who is trusted and why: `mura promote` by hand, rollback, champion, history, models, compare
    merge.py        `mura merge`: the whole of its parts
    tools.py        the other commands: phantom, import, remote, shards, bench, summary, settings, collect,
                    doctor, notify
    trust.py        `mura verify` and `mura keys`; chain.py: the way from an archive to a version, link by link
    group.py        lists of commands with whole sentences
    doctor.py       `mura doctor`: can this installation do the work?
    doctor_mlflow.py, check.py    its questions about MLflow, and one line of its answer
    summary.py      `mura summary`: the last promotion
"""
