"""The directories that steps hand on. Each is sealed by a card with digests, and checked when it is read.

artifacts/
    artifact.py         the card, its format, its digest, sealing and checking
    content.py          what a table or JSON file says, whatever its bytes
    differences.py      in what two sets of facts differ
    manifest.py         Manifest and ValidManifest: the table of images
    shards.py           Shards: TFRecords and the table of records
    parts.py            ManifestPart and ShardsPart: shares of both, made on several machines
    trained_model.py    TrainedModel: weights and learning curves
    evaluation.py       Evaluation: metrics with intervals, predictions, report
    stress.py           Stress: what disturbed pictures cost
    registration.py     Registration: the receipt for model versions
    promotion.py        Promotion: the receipt for a decision
    followed.py         Followed: the version that an alias names at the moment
"""
