"""The pipeline, and what is compiled of it.

graph/
    definition.py    the graph: the same steps, edges and parameters as dvc.yaml
    component.py     a step as a Kubeflow component, read from its signature
    placement.py     where a task runs, and with what
    image_names.py   the image that runs the steps, named by its content
    compiling.py     params.yaml -> a compiled pipeline
    package.py       a compiled pipeline: its parameters, its steps, its needs
    run_size.py      how large a run of it becomes in Kubernetes
    overlay_argument.py   the overlay of labels as an argument of a run
"""
