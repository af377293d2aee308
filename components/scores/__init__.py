"""Scores at study level: numbers, curves and charts.

studies.py   one row per study: the network's answer, a probability; sigmoid and AUROC. Training needs only this module
             and offsets.py
offsets.py   by how much the weights of the loss shifted the answers, by body part
logistic.py  logistic regression with a known offset
calibration.py
             from answers to probabilities: fitted on tuning, cross-fitted for the figures on tuning
rates.py     what follows from the counts of a two-by-two table
influence.py what each study contributes to each metric
intervals.py 95 % intervals with patients as clusters, and the method of each
paired.py    differences of two models on the same studies, with intervals
metrics.py   all metrics with intervals, the worst errors
operating_points.py
             the thresholds that tuning chooses
reliability.py
             how well probabilities agree with what was observed
slices.py    studies measured apart: by body part, number of views and others
floor.py     what can be known without looking at the bones
both_splits.py
             calibration, thresholds and scores from predictions: `evaluate` measures, `register` measures again
familiarity.py
             which views are unlike those of the training, with a stated share of false alarms
curves.py    points of the ROC, precision-recall, calibration and decision curves
bands.py     pointwise bands around ROC and precision-recall curves
charts.py    matplotlib figures of these, and their PNG bytes
calibration_charts.py
             those of calibration and decisions
comparison_charts.py, side_by_side.py
             those of several models
"""
