"""How fast an atlas is folded, and what the rest of it will take.

calibration.py  rates of devices and sizes of outputs, measured from finished shards
estimate.py     device time, wall time, bytes and money of a plan
pace.py         rates now, from the times in manifest entries
"""
