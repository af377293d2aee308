"""Scores at study level: numbers, curves and charts.

studies.py   one row per study: the mean over its views; sigmoid and AUROC. Training needs only this module
rates.py     what follows from the counts of a two-by-two table
influence.py what each study contributes to each metric
intervals.py 95 % intervals with patients as clusters, and the method of each
paired.py    differences of two models on the same studies, with intervals
metrics.py   all metrics with intervals, the choice of the threshold, the worst errors
both_splits.py
             threshold, tuning and test scores from predictions: `evaluate` measures, `register` measures again
curves.py    points of the ROC, precision-recall and calibration curves
charts.py    matplotlib figures of these, and their PNG bytes
"""
