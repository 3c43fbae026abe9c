"""How the networks are trained. Nothing here is needed to embed or fold.

For all trainings:
    run_folder.py                   the folder of a run: settings, checkpoints that survive a kill (no torch)
    metrics.py                      numbers of a run as JSON lines and for TensorBoard
    schedule.py                     the learning rate, step by step (no torch)
    precision.py                    float32, or products in bfloat16
    optimisers.py                   AdamW, Muon on matrices; their state as named tensors
    stopping.py                     Ctrl-C and SIGTERM end a run between two steps (no torch)
    processes.py                    one process, or those of torchrun with FSDP2

For the folding head:
    folding_training.py             the loop
    crops.py                        what each step sees of which chain
    forward.py, outputs.py          the network with all that the losses read
    start.py, initial.py            the weights before the first step
    average.py                      those that are kept
    recipes.py                      settings with a name
    targets.py, side_chains.py      frames, torsions and names of the experimental atoms
    renaming.py                     side chains with two names
    structure_loss.py               the sum of all losses and its weights, from
        frame_aligned_error.py, lddt_loss.py, torsion_loss.py, distogram_loss.py, confidence_losses.py,
        violations.py, geometry_bounds.py, masked.py

What `nano` learns from:
    nano_data.py                    which sequences are taken, held out and left out (no torch)
    sequence_search.py              MMseqs2, as a program of its own (no torch)
    make_nano_data.py               runs the searches and writes the files (no torch)

The language model:
    presets.py                      sizes and recipes with a name (no torch)
    corpus.py                       sequences as tokens, by clusters; some held out
    sampling.py                     which sequences a batch holds
    masking.py                      which residues are hidden
    packing.py                      sequences into passes, without padding
    masked_model.py                 the network with its head, on packed sequences
    language_training.py            the run
"""
