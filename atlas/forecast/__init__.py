"""How fast an atlas is folded, and what the rest of it will take.

device_rates.py     rates of devices, measured from committed shards
output_sizes.py     sizes of output tables, measured from committed shards
estimate.py         predicted device time, wall time, bytes and money
pace.py             rates of workers, runs and devices, from the times in manifest entries
"""
