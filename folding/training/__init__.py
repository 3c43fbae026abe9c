"""How the networks are trained. Nothing here is needed to embed or fold.

For all trainings:
    run_folder.py           the folder of a run: settings, checkpoints that survive a kill (no torch)
    metrics.py              numbers of a run as JSON lines and for TensorBoard
    schedule.py             the learning rate, step by step (no torch)
    precision.py            float32, or products in bfloat16
    optimisers.py           AdamW, Muon on matrices; their state as named tensors
    stopping.py             Ctrl-C and SIGTERM end a run between two steps (no torch)
    processes.py            one process, or those of torchrun with FSDP2

The folding head:
    folding_training.py     the loop
    forward.py              the network with all that the losses read
    starting_model.py       the network before the first step, and how the result is written
    initialization.py       the weights before the first step
    average.py              those that are kept
    recipes.py              settings with a name
    losses/                 what it is trained on

The language model:
    language_training.py    the run
    masked_model.py         the network with its head, on packed sequences
    presets.py              sizes and recipes with a name (no torch)

data/                       sequences and chains: which are taken, and what a step sees of them
"""
