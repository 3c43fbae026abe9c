"""The one Beam graph that everything runs in, and the engines that run it.

graph.py        builds the graph
engine.py       an engine: runner, workers, options
choose.py       which engine `--runner`, `--workers` and Beam's options mean
options.py      Beam's own options, as typed after `--`
backend.py      what running needs of each kind of engine
embedded.py     the engine in this very process
dispatch.py     runs the graph on the engine that was chosen
rounds.py       runs tasks until none is left
conformance.py  whether an engine works on every descriptor
temporary_folder.py  pipelines of Beam that make no temporary folder
beam.py         Apache Beam, imported without its warnings

dask/               Dask clusters: our own on this machine, or the user's
portable/           engines behind Beam's job service: Prism, Flink, Spark, Dataflow
"""
