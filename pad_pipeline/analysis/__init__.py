"""The paper's measures of a projector: entropy, alignment, matching pursuit, and their figures."""
