"""`mura import --dicom` and `--pictures`: an archive of MURA's layout from a hospital's files, without identity.

own_import.py     the command: what is read, in which order, and what is said at the end
pseudonyms.py     keyed hashes, and the key's file
label_rows.py     the CSV of labels; part_names.py: the map of body parts
source_files.py   what worker processes read: the headers first, then the pictures
kept.py           what identifies nobody, in common words; rare values are not kept
arrangement.py    which file is which view of which study, and what is left out
own_archive.py    the zip and its lists

Identity (names, numbers and dates of patients, accession numbers and UIDs, names of files) becomes keyed hashes where
it is read, so that nothing else can write it. Messages name rows of the CSV by number.
"""
