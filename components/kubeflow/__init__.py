"""Kubeflow Pipelines, seen from a step.

kubeflow/
    executor.py   what Kubeflow gives a step, and the report that it expects
    pod.py        the run that a pod belongs to
    notify.py     report to a webhook how the run ended
    failed_pods.py    the steps whose pods failed
    argo.py       Argo's names of a run's nodes
"""
