"""What the explorer asks of an atlas: counts, histograms, maps, and a table in any order, at 10 million proteins.

columns.py     the columns that can be filtered, drawn and coloured, of one index
conditions.py  conditions that the explorer adds to a filter: ranges, choices, regions of a map
regions.py     regions of a map as SQL, and a grid that makes polygons fast
selected.py    a whole filter, as SQL for the index and for the explorer's table
mask.py        a condition that another process evaluates, as one bit per record
bins.py        edges of histograms, and SQL of the bin of a value
table.py       the explorer's table: one row per protein, made once per index
tables.py      the table of the index that is served, made in the background; answers kept
summary.py     counts and histograms
maps.py        points of a window of a map, or their density
rows.py        pages of proteins in the order of any column; the protein of a point
"""
