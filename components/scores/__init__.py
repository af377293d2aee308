"""Scores at study level: numbers, curves and charts.

studies.py   one row per study: the mean over its views; sigmoid and AUROC. Training needs only this module
metrics.py   all metrics with bootstrap intervals, the choice of the threshold, the worst errors
both_splits.py
             threshold, tuning and test scores from predictions: `evaluate` measures, `register` measures again
curves.py    points of the ROC, precision-recall and calibration curves
charts.py    matplotlib figures of these, and their PNG bytes
"""
