"""What people ask of an atlas: planning, the index, SQL, export, verification. The only home of duckdb.

commit.py           writing once, or replacing whole: nothing half-written is ever visible
parquet_files.py    Parquet files with their digest
folder.py           an atlas on disk: header, plans, manifest
"""
