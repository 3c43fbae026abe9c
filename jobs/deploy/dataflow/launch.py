"""What Dataflow's template launcher runs: the parameters of metadata.json and Beam's own options -> `foldatlas fold`.

The launcher passes both kinds alike (`--fasta=...`, `--project=...`), and in any order.
"""

import sys

REQUIRED = ("fasta", "atlas", "model")
OPTIONAL = ("device", "precision", "max_length")
DEFAULTS = {"device": "cuda"}


def fold_arguments(arguments: list[str]) -> list[str]:
    """The arguments of `foldatlas` for those of the template. Raises SystemExit for a parameter that is missing."""
    given = dict(DEFAULTS)
    beam = []
    for argument in arguments:
        name, equals, value = argument.removeprefix("--").partition("=")
        if equals and name in (*REQUIRED, *OPTIONAL):
            given[name] = value
        elif name != "runner":
            beam.append(argument)
    missing = [name for name in REQUIRED if not given.get(name)]
    if missing:
        raise SystemExit(f"launch.py: the template's parameters {', '.join(missing)} are missing")
    options = [f"--{name.replace('_', '-')}={given[name]}" for name in ("model", *OPTIONAL) if given.get(name)]
    return ["fold", given["fasta"], given["atlas"], *options, "--runner", "DataflowRunner", "--", *beam]


if __name__ == "__main__":
    from foldatlas.jobs.cli import main

    sys.exit(main(fold_arguments(sys.argv[1:])))
