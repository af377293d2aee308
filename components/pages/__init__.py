"""What the pages of the steps share. A page is one HTML file that loads nothing and runs nothing.

render.py     fills a step's template
base.html     frame and style of every page
opened.html   how often a test split was opened, and under which protocols
macros.html   intervals, tiles, numbers and digests
"""
