"""SQL over an atlas: one statement that reads, and its rows.

query.py                one statement that reads, in batches of rows
result_formats.py       rows as table, csv, json, jsonl or parquet
records_by_name.py      records by `id`, `source:id` or structure_id
text.py                 names, texts and paths as they are written in SQL
interruptible.py        Ctrl-C during a long statement
"""
