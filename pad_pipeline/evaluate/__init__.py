"""What a projector has learnt: the measures of the paper, on a trained run, and their figures."""
