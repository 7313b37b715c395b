"""The measures as plain functions of tensors: entropy, Align, matching pursuit."""
