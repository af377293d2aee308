"""Where images come from, and what is said about them.

archive.py      an archive: a zip or a directory, on disk or on S3
zip_safety.py   checks of names, sizes and table of contents, before anything is read
known_md5.py    the md5 that an archive should have
zip_member.py   one member of a zip, by both of its headers
folder.py       a directory as an archive; disk.py: files that may change while they are read
s3.py           objects on S3 as files; s3_requests.py: retries and errors
member_paths.py what the path of an image says
mura_csv.py     MURA's four CSVs; mura_v1_1.py: the published counts; csv_rows.py: rows of bounded size
about_images.py what an archive of somebody's own says of its images beyond these lists
overlay.py      second opinions on labels
zip_entry.py    members of a zip that is written
importing.py    `mura import`: an archive becomes one file under DVC; dvc.py: DVC itself
"""
