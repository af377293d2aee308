"""MLflow: trainings, their models, the registry. Nothing else of this project imports MLflow.

mlflow_settings.py  MLflow's variables in the environment: our defaults, and what is overruled
address.py          whether an address can be used, and what was probably meant
local_database.py   the database that is a file
server.py           where MLflow is, and whether it answers
failures.py         what its errors mean
effects.py          what is found again before it is repeated
readiness.py        whether it has all that a training needs at its end
parent.py           the run that somebody began for this process
run.py              one training as a run
left_open.py        runs that killed steps left open
logged_model.py     a network as the output of a run
stored_model.py     whether a stored network can be loaded
publish.py          a trained model that is not on this server yet
logged_predictor.py a model with its evaluation: what versions are of
saved_predictor.py  its files as MLflow wants them
scoring.py          what MLflow's scoring server is told of a wrong request
split_data.py       the splits of a data set, and the scores on them
measured_models.py  which models were ever measured on a test split
evidence_files.py   the evidence of a version: written, signed, read
examined.py         what can be told of a version, link by link
absent.py           what stores say of a file that they do not have
stored_studies.py   the probabilities of a version's studies, without names
alias.py            which version an alias names, asked again and again
model_registry.py   versions, and the alias of the trusted one
version_list.py     all versions of a registered model
audit.py            what was decided about a model: a signed record in the registry
audit_alias.py      the aliases follow that record

Importing this package sets MLflow's settings, as MLflow reads them while it is imported, and then imports it.
"""

from components.tracking import mlflow_settings

mlflow_settings.apply()

from components.tracking.address import URI  # noqa: E402
from components.tracking.address import shown as shown_uri  # noqa: E402
from components.tracking.failures import is_missing, refusals  # noqa: E402
from components.tracking.logged_predictor import ensure as ensure_predictor  # noqa: E402
from components.tracking.publish import ensure_model  # noqa: E402
from components.tracking.run import Dataset, Description, Run, training_run  # noqa: E402
from components.tracking.server import connect, locate, require  # noqa: E402

__all__ = [
    "URI", "Dataset", "Description", "Run", "connect", "ensure_model", "ensure_predictor", "is_missing",
    "locate", "refusals", "require", "shown_uri",
    "training_run",
]  # fmt: skip
