"""Training and tests of an experiment, and the folders in which their runs lie."""
