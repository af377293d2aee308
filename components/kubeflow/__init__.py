"""Kubeflow Pipelines and Kubeflow Trainer, seen from a step.

kubeflow/
    executor.py     what Kubeflow gives a step, and the report that it expects
    pod.py          the run that a pod belongs to
    argo.py         Argo's names of a run's nodes
    failed_pods.py  the steps whose pods failed
    notify.py       report to a webhook how the run ended
    train_job.py    how far a training is, for its TrainJob
"""
