"""A map of an atlas: each structure of a present record at a position in two dimensions.

settings.py     what a map depends on, and the constants of the method
features.py     numbers that describe each structure, read file by file
components.py   features -> principal components
layout.py       components -> positions: t-SNE, and placing by neighbours
run.py          the derived stage: draw, fit, place, write
points.py       the proteins of a map, with positions and columns to colour them by
protspace.py    a .parquetbundle for ProtSpace
embedding_atlas.py  a Parquet file for Embedding Atlas
"""
