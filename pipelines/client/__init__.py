"""Kubeflow Pipelines' API.

client/
    access.py       where it is and how we log in
    cluster.py      requests through kfp's client, each with a time limit
    refusal.py      what an error of the server means, in one line
    upload.py       pipelines, versions and experiments: made once
    submission.py   what is to be run, on what data
    runs.py         runs: find one, read its progress
    nodes.py        which of Argo's nodes worked for a step
    in_cluster.py   what Kubernetes adds to that
    following.py    show a run until it ends
    screen.py       the table of a run's steps
    conclusion.py   how a run ended, and why
    step_log.py     the log of a step, without what stands around it
    kept_logs.py    logs of pods that are gone
    cron.py         when a schedule starts its runs
"""
