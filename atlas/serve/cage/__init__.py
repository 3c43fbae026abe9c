"""SQL of strangers: one checked SELECT, in a process that can read the atlas alone and write nothing but its own files.

statement.py   the parsed statement: a single SELECT of known tables and table functions
query.py       what the process does: open the index, run the statement, write its rows
frames.py      the pieces in which rows come back
template.py    the program that forks a confined process for each statement
confine.py     all confinement of a process, and whether it holds
landlock.py    which files a process may open (Landlock)
seccomp.py     which system calls a process may make (seccomp)
processes.py   the server's side: starting, reading, stopping
"""
