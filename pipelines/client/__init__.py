"""Kubeflow Pipelines' API.

client/
    access.py       where it is and how we log in
    cluster.py      requests through kfp's client, each with a time limit
    refusal.py      what an error of the server means, in one line
    upload.py       pipelines, versions and experiments: made once
    submission.py   what is to be run, on what data
    runs.py         runs: find one, read its progress
    following.py    show a run until it ends
    screen.py       the table of a run's steps
    cron.py         when a schedule starts its runs
"""
