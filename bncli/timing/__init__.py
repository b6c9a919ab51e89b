"""Timing of norms: cases against yardsticks in one process, several processes against a baseline, and the gate."""
