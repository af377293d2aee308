"""Kubeflow Pipelines and Kubeflow Trainer, seen from a step.

kubeflow/
    executor.py   what Kubeflow gives a step, and the report that it expects
    pod.py        the run that a pod belongs to
    notify.py     report to a webhook how the run ended
<<<<<<< HEAD
    train_job.py  how far a training is, for its TrainJob
=======
    failed_pods.py    the steps whose pods failed
    argo.py       Argo's names of a run's nodes
>>>>>>> 879bb255711c0330d32f99285597811d7a331759
"""
