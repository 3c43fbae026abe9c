"""Processes that own a device, and the code that supervises them.

supervisor.py       the parent's side: starts a process when one is needed, and sends it batches
link.py             one process and the connection to it: messages with deadlines, and its end
process.py          its start
child.py            that process, folding
embedding_child.py  that process, embedding
inherited.py        what a child has from its parent: the connection, and when to end
messages.py         what the two send each other
wire.py             how: as bytes, without pickle
results.py          the results of a batch as arrays
devices.py          the device that folds, and the lock on it
"""
