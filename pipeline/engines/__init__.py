"""The one Beam graph that everything runs in, and the engines that run it.

graph.py            the graph: built and run
graph_rules.py      the shape of graph that every engine gets right
engine.py           which engine, with what options
options.py          Beam's own options, as typed after `--`
conformance.py      whether an engine works on every descriptor

dask/               Dask clusters: our own on this machine, or the user's
portable/           engines behind Beam's job service: Prism, Flink, Spark, Dataflow
"""
