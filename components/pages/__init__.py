"""What the pages of the steps share. A page is one HTML file that loads nothing and runs nothing.

render.py     fills a step's template
base.html     frame and style of every page
subgroups.py  the part about groups of studies; subgroups.html: its template
opened.html   how often a test split was opened, and under which protocols
prose.py      a document that is read as Markdown and as HTML
macros.html   intervals, differences, tiles, numbers, digests, confusion matrices and errors
"""
