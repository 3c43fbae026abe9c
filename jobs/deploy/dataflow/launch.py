"""Entry point of the Dataflow template: turn the launcher's arguments into a `foldatlas fold` command.

The launcher passes the parameters of metadata.json and Beam's options alike (`--fasta=...`, `--project=...`), in any
order.
"""

import sys

REQUIRED = ("fasta", "atlas", "model")
OPTIONAL = ("device", "precision", "max_length")
DEFAULTS = {"device": "cuda"}


def fold_arguments(arguments: list[str]) -> list[str]:
    """Return the arguments of `foldatlas` for those of the template. Raise SystemExit for a missing parameter."""
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
        raise SystemExit(f"launch.py: missing template parameters: {', '.join(missing)}")
    options = [f"--{name.replace('_', '-')}={given[name]}" for name in ("model", *OPTIONAL) if given.get(name)]
    return ["fold", given["fasta"], given["atlas"], *options, "--runner", "DataflowRunner", "--", *beam]


if __name__ == "__main__":
    from foldatlas.jobs.cli import main

    sys.exit(main(fold_arguments(sys.argv[1:])))
