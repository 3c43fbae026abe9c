"""Training of the networks. Embedding and folding need nothing from here.

For both networks:
    run_folder.py           the folder of a run: settings and checkpoints (no torch)
    metrics.py              metrics as JSON lines and for TensorBoard
    schedule.py             learning rate schedule (no torch)
    precision.py            float32, or matrix products in bfloat16
    optimisers.py           AdamW, and Muon for matrices; their state as named tensors
    stopping.py             stopping by Ctrl-C or SIGTERM between two steps (no torch)
    processes.py            one process, or those of torchrun with FSDP2

The folding head:
    folding_training.py     the training loop
    forward.py              forward pass with all outputs that the losses read
    starting_model.py       the model that training starts from, and writing of the result
    initialization.py       initial weights
    average.py              exponential moving average of the weights
    recipes.py              named presets
    losses/                 the losses

The language model:
    language_training.py    the training loop
    masked_model.py         the network with its masked-token head, on packed sequences
    presets.py              named presets (no torch)

data/                       training data: selection, sampling, masking
"""
