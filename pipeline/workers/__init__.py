"""Processes that own a device, and their parents.

supervisor.py       the parent's side: starting, asking and ending the process
child.py            that process, folding
embedding_child.py  that process, embedding
messages.py         what the two send each other
devices.py          which device folds, and the lock on it
"""
