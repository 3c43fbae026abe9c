"""SQL on an atlas: one statement that only reads, and its rows.

parameters.py           values in place of $name
suggestions.py          the column that a wrong name means
notebook.py             rows as an HTML table
query.py                one statement that only reads, in batches of rows
result_formats.py       rows as table, csv, json, jsonl or parquet
records_by_name.py      records by `id`, `source:id` or structure_id
text.py                 quoting of names, texts and paths in SQL
interruptible.py        interruption of a long statement by Ctrl-C
"""
