"""How the networks are trained. Nothing here is needed to embed or fold.

For all trainings:
    run_folder.py                   the folder of a run: settings, checkpoints that survive a kill (no torch)
    metrics.py                      numbers of a run as JSON lines and for TensorBoard
    schedule.py                     the learning rate, step by step (no torch)
    optimisers.py                   AdamW, Muon on matrices; their state as named tensors
    stopping.py                     Ctrl-C and SIGTERM end a run between two steps (no torch)
    processes.py                    one process, or those of torchrun with FSDP2

The language model:
    presets.py                      sizes and recipes with a name (no torch)
    corpus.py                       sequences as tokens, by clusters; some held out
    sampling.py                     which sequences a batch holds
    masking.py                      which residues are hidden
    packing.py                      sequences into passes, without padding
    masked_model.py                 the network with its head, on packed sequences
    language_training.py            the run
"""
