"""What differs between two atlases.

tolerances.py     which differences of numbers count
differences.py    kinds of differences, and the table of them
compare.py        read both atlases and fill the table
coordinates.py    RMSD and pLDDT of structures that are stored differently
summary.py        the table as text
"""
