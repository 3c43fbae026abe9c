"""The one Beam graph of all work, and the engines that run it.

graph.py        builds the graph
engine.py       an engine: runner, workers, options
choose.py       the engine that `--runner`, `--workers` and Beam's options choose
options.py      Beam's own options, as typed after `--`
backend.py      the interface of each kind of engine
embedded.py     the engine in this process
dispatch.py     runs the graph on the chosen engine
rounds.py       submits tasks again until all are done
conformance.py  a test that an engine works on every descriptor
temporary_folder.py  Beam pipelines that make no temporary folder
beam.py         Apache Beam, imported without its warnings

dask/               Dask clusters: started for a run on this machine, or the user's
portable/           engines behind Beam's job service: Prism, Flink, Spark, Dataflow
"""
