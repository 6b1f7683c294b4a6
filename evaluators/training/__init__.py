"""Training one network: the recipe, the optimizer and its schedule, batches, epochs, and the files of a trial."""
