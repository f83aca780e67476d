"""How a meta-batch is executed fast: hand-derived passes, and the loops for each device."""
