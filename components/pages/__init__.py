"""Results as pages for people: one HTML file each, with nothing to fetch and nothing to run."""

from components.pages.evaluation import EvaluationFigures, Relabelled, evaluation_page
from components.pages.promotion import promotion_page

__all__ = ["EvaluationFigures", "Relabelled", "evaluation_page", "promotion_page"]
