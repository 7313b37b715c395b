"""OWLv2 (Minderer et al. 2023), a detector that scores every patch against each tag's words."""
