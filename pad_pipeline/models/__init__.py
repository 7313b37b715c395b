"""The three models of the annotation chain: taggers, detectors and segmenters."""
