"""The graph for Kubeflow Pipelines. The only package that imports kfp.

pipelines/
    commands/       `mura pipeline ...`, a module for each command
    graph/          the pipeline: steps as components, where they run, compiled to YAML
    client/         Kubeflow Pipelines' API: who asks, uploads, runs
    local/          the compiled pipeline in containers of this machine
    checks/         what a run needs outside Kubeflow: the archive, the images, the namespace
    kfp_extra.py    the optional packages, and what is said where they are missing
"""
