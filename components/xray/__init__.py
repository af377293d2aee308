"""One X-ray picture.

png.py          a PNG file, checked and decoded to one channel
jpeg.py         a JPEG file; dicom.py: a DICOM file, as a viewer first shows it; picture.py: any of the three
dicom_header.py what a DICOM file says beside its picture; body_parts.py: its words for body parts
square.py       fitted into the square that networks see
signature.py    perceptual hash and low frequencies, for finding copies
grey_levels.py  statistics of the grey levels, for finding odd pictures
"""

import cv2

# Each worker process decodes one image at a time. OpenCV's own threads would compete with the other workers.
cv2.setNumThreads(1)
