"""Dask clusters: one started by the run on this machine, or the user's.

engine.py       Beam's DaskRunner on a cluster
local.py        a cluster on this machine, for one run
pool.py         the workers of a cluster: hosts, versions, devices
worker.py       what happens in a worker
messages.py     what a worker sends to its driver
preload.py      what a worker process runs first
keys.py         certificates of a cluster that others cannot join
"""
