"""Timing of norms: cases against rivals in one process, several processes against a baseline, and the gate."""
