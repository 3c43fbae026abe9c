"""Dask clusters: one of our own on this machine, or the user's.

engine.py       Beam's DaskRunner on a cluster
local.py        a cluster of our own on this machine
pool.py         its workers: machines, versions, devices
worker.py       what happens in a worker
preload.py      what a worker runs before anything else
keys.py         keys of a cluster that others cannot join
"""
