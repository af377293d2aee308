"""Great Expectations, imported without its messages. It also stays without its telemetry."""

import logging
import os
import warnings

# Read at import. Nothing about private data may be reported.
os.environ["GX_ANALYTICS_ENABLED"] = "false"
# At INFO it advertises its documentation.
logging.getLogger("great_expectations").setLevel(logging.WARNING)
with warnings.catch_warnings():
    # It uses deprecated modules of Python, and tries to import Google's client, which lacks a package.
    warnings.filterwarnings("ignore", r"module 'sre_\w+' is deprecated", DeprecationWarning)
    warnings.filterwarnings("ignore", "Please install grpcio-status", ImportWarning)
    import great_expectations as gx
    import great_expectations.expectations as gxe
    from great_expectations.data_context.types.base import ProgressBarsConfig
    from great_expectations.expectations.metadata_types import FailureSeverity
    from great_expectations.expectations.row_conditions import Column
    from great_expectations.render.renderer.page_renderer import ValidationResultsPageRenderer
    from great_expectations.render.view import DefaultJinjaPageView
# This module sets its own level when it is imported.
logging.getLogger("great_expectations.data_context.types.base").setLevel(logging.WARNING)

__all__ = [
    "Column",
    "DefaultJinjaPageView",
    "FailureSeverity",
    "ProgressBarsConfig",
    "ValidationResultsPageRenderer",
    "gx",
    "gxe",
]
