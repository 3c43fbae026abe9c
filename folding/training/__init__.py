"""Training ESM-2 and ESMFold: data, objectives, loops."""
