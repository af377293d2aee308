"""Networks: pixels in, logit out, and how TensorFlow runs them.

architectures.py   the four networks, and their weights
combining.py       the mean of several networks as one
augmentation.py    random changes of the pictures in training
weights_file.py    the file that Keras writes of them; stored.py: a network as the registry has it
batches.py         a split of the shards, and the batches of an epoch
pixels.py          the pixels of a split that stay on disk
memory.py          how much memory is free
features.py        what a network sees at several depths; strange.py: pictures that are like nothing it learned
activation_map.py  what each place of a picture adds to the logit; onnx_export.py: a network as an ONNX file
predictor_files.py the files of a registered version
grad_cam.py        which places of a picture speak for abnormal
backend.py         device, precision and settings of TensorFlow

Importing this package imports TensorFlow, with its messages turned off (backend.py). So the modules in here import
`tensorflow` and `keras` at the top, like any library. A module elsewhere that is the first to be imported, such as
`train.training`, leaves both to the modules it imports after this package.
"""

from components.network import backend

__all__ = ["backend"]
