"""The graph for Kubeflow Pipelines."""
