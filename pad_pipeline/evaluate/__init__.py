"""The paper's measures of a trained projector, and their figures."""
