"""What a broken expectation says about its offenders: the fault, and what to do about it.

The reports say what the data must be; the line of an error says what is wrong. `{}` stands for the offenders.
"""

from collections.abc import Mapping

_LISTS = "train_image_paths.csv (valid_image_paths.csv for a path with /valid/)"
_LABELS = "correct the label in the CSV of studies, or the directory's name"
_COPIES = "keep one of the two files"
_REMAKE = "run `mura ingest` again"
_SPLITS = "move all studies of a patient into one of train and valid"
_PUBLISHED = "complete the archive, or set validate.published to none"
_REFERENCE = "compare the archive with the reference in the report"

FAULTS: Mapping[str, str] = {
    "not_empty": "the manifest has no images: name an archive that has some",
    "complete": f"the manifest has more or fewer rows than `mura ingest` counted images: {_REMAKE}",
    "found": "the CSV names {}, and the archive lacks it: add the file, or remove its row from the CSV",
    "listed": f"no CSV names {{}}: add its row to {_LISTS}, or remove the file",
    "image_once": f"several rows have the image {{}}: {_REMAKE}",
    "path": "misnamed: {}",
    "body_part": "unknown or not chosen: {}: correct the directory's name, or remove it",
    "place_once": f"two files are the same view: {{}}: {_COPIES}",
    "decodes": "damaged: {}: replace the file",
    "recorded": f"not recorded of {{}}: correct the path or the file and {_REMAKE}",
    "labelled": "no CSV has a label for the study of {}: add the study to the split's labeled_studies.csv",
    "label": f"neither 0 nor 1: {{}}: {_LABELS}",
    "label_agrees": f"CSV and directory contradict each other: {{}}: {_LABELS}",
    "study_has_one_label": f"two labels for one study: {{}}: {_LABELS}",
    "study_has_one_patient": "two patients for one study: {}: correct the directories' names",
    "study_has_one_body_part": "two body parts for one study: {}: correct the directories' names",
    "abnormal_share": "outside the bounds: {}: look for swapped labels, or change validate.abnormal_share",
    "label_shift": "abnormal studies are not as frequent in test as in training: {}: look for swapped labels",
    "patient_in_one_split": f"in two splits: {{}}: {_SPLITS}",
    "split_agrees": f"in the wrong split: {{}}: {_REMAKE}",
    "splits_present": "no images in {}: add some, or change ingest.tuning_fraction or ingest.body_parts",
    "split_has_both_labels": "only one label in {}: add studies with the other, or change ingest.tuning_fraction",
    "body_part_is_trained": "not in train: {}: lower ingest.tuning_fraction, or leave it out of ingest.body_parts",
    "picture_in_one_split": f"the same picture is in two splits: {{}}: {_COPIES}",
    "picture_has_one_label": f"the same picture is normal and abnormal: {{}}: {_COPIES}",
    "picture_of_one_patient": f"the same picture is of two patients: {{}}: {_COPIES}",
    "picture_once": f"the same picture is there twice: {{}}: {_COPIES}",
    "near_picture_in_one_split": f"almost the same picture is in two splits: {{}}: {_COPIES}",
    "near_picture_has_one_label": f"almost the same picture is normal and abnormal: {{}}: {_COPIES}",
    "near_picture_of_one_patient": f"almost the same picture is of two patients: {{}}: {_COPIES}",
    "mode": "unwanted pixel mode: {}: convert the file, or change validate.modes",
    "min_side": "too small: {}: replace the file, or change validate.min_side",
    "max_side": "too large: {}: replace the file, or change validate.max_side",
    "views": "too many views: {}: look for merged studies, or change validate.max_views",
    "aspect": "too long and narrow: {}: replace the file, or change validate.max_aspect",
    "not_blank": "almost blank: {}: replace the file",
    "contrast": "too little contrast: {}: replace the file, or change validate.min_contrast",
    "not_mostly_frame": "mostly empty border: {}: crop the picture, or change validate.max_frame",
    "not_inverted": "perhaps a negative: {}: invert the picture, or change validate.max_inversion",
    "channels_agree": "coloured: {}: look for drawn marks",
    "published_images": f"not the published number of images: {{}}: {_PUBLISHED}",
    "published_studies": f"not the published number of studies: {{}}: {_PUBLISHED}",
    "published_patients": f"not the published number of patients: {{}}: {_PUBLISHED}",
    "published_views": f"more or fewer views than any published study: {{}}: {_PUBLISHED}",
    "published_longest_side": f"not the published longer side: {{}}: {_PUBLISHED}",
    "drift_body_parts": f"body parts differ from the reference: {{}}: {_REFERENCE}",
    "drift_labels": f"labels differ from the reference: {{}}: {_REFERENCE}",
    "drift_modes": f"modes differ from the reference: {{}}: {_REFERENCE}",
    "drift_sizes": f"sizes differ from the reference: {{}}: {_REFERENCE}",
    "drift_grey_levels": f"grey levels differ from the reference: {{}}: {_REFERENCE}",
}
"""By the name of the expectation."""
