"""What a run needs outside Kubeflow Pipelines.

checks/
    check_result.py      the result of one check: a mark, a subject, a sentence
    tracked_archive.py   the archive that DVC tracks: its address on S3
    image_registry.py    the image in its registry
    namespace.py         service account, secrets, config maps, quota and nodes, asked of Kubernetes
    mlflow_place.py      whether pods are told where MLflow is
    retries.py           what Argo retries on this cluster
"""
