"""`mura evaluate --archive`: a registered version on other labelled data, with everything frozen.

validation.py   reads the archive, asks the version, measures, writes the artifact
picture_answers.py
                each picture of the archive: the network's answer, or why there is none
page.py         the page, from what was measured; external.html is its template
"""
