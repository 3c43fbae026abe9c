"""Engines behind Beam's job service: Prism, Flink, Spark, Dataflow.

engine.py           submission, and the end of a run
options.py          what these engines need
prism_server.py     Beam's program prism, started for one job
"""
