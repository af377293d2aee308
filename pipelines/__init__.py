"""The graph for Kubeflow Pipelines: compiled, run in local containers, submitted. The only place that imports kfp."""
