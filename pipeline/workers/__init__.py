"""Processes that own a device, and the code that supervises them.

supervisor.py       the parent's side: asks and ends the process
process.py          its start
child.py            that process, folding
embedding_child.py  that process, embedding
inherited.py        what a child has from its parent: the connection, and when to end
messages.py         what the two send each other
wire.py             how: as bytes, without pickle
results.py          the results of a batch as arrays
devices.py          the device that folds, and the lock on it
"""
