"""What runs in a container. It knows no orchestrator. Rooms import downwards only.

components/
    cli/            the command line: flags -> read artifacts -> run the step -> write the artifact
    ingest/ validate/ shard/ train/ evaluate/ ensemble/ register/ promote/    the steps, in the order of the graph
    stress/         an analysis, called like a step: what disturbed pictures cost a model
    tune/           `mura tune`: a search for better parameters of a candidate, on the training split alone
    predict/        `mura predict`: pictures of a study in, a verdict out, by a registered version
    external/       `mura evaluate --archive`: a registered version on other labelled data
    serve/          `mura serve`: the same behind an address, with a page; `mura drift`: what its log says
    archive/        where images come from: zip, directory, S3; MURA's lists; second opinions; DVC
    xray/           one picture: PNG, JPEG or DICOM, one channel, fitted to the square
    phantom/        the drawn archive
    network/        architectures, batches, pixels, precision
    scores/         studies, metrics with intervals, curves, charts
    pages/          what the pages of the steps share
    tracking/       MLflow: runs, models, the registry
    kubeflow/       what a step tells Kubeflow, and reads from it
    params/         params.yaml as frozen types that refuse unknown keys
    artifacts/      the directories that steps hand on, and their cards
    base/           errors, files written whole, code digests, progress, workers
"""
