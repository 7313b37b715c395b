"""Segment Anything (SAM, MobileSAM, SAM-HQ, SAM 2): which pixels of a box belong to the thing."""
