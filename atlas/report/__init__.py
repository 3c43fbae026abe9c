"""The report of an atlas: one HTML page without network requests, or the same figures as text for a terminal.

report.py      write report.html, or return the text
content.py     what is shown: the figures, the sentences, the structures
figures.py     the statements of the figures, and their rows
summary.py     what the figures mean, in sentences
structures.py  the structures that are shown, with the nearest known one and PAE
charts.py      which chart each figure has
drawing.py     charts as SVG
cards.py       a structure on the page: facts, drawing, coordinates for the 3D view
png.py         a matrix as an image
page.py        the HTML page, from the template
text.py        the figures as some forty lines

template/      template, style and script of the page
"""
