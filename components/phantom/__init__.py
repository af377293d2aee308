"""An archive that looks like MURA and holds nothing of it, drawn bone by bone from a seed.

plan.py           which studies it holds: patients, parts, labels, views     writing.py  zip and truth, whole or not
radiograph.py     one view: pose, exposure, what is seen                     truth.py    findings, kinds and boxes
anatomy.py        bones, joints and flesh of seven body parts                film.py     from shapes to grey levels
pathology.py      what makes a study abnormal; breaks.py moves bones, hardware.py draws metal
distractors.py    what catches the eye and means nothing                     sheet.py    a contact sheet
"""
