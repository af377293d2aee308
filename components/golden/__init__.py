"""The golden set of a version: drawn pictures, and what its network answered to them when it was registered.

onnx_network.py  a network by ONNX Runtime
golden_pictures.py  the pictures: drawn, never of a patient
replaying.py     write the set, and answer it again
apart.py         the same in a fresh process

Neither TensorFlow nor MLflow is imported here.
"""
