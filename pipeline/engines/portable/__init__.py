"""Engines behind Beam's job service: Prism, Flink, Spark, Dataflow.

engine.py           submission, and the end of a run
options.py          what these engines need
quiet.py            keeps Beam's own messages off the terminal
prism_server.py     Beam's program prism, started for one job
"""
