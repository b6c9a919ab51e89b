"""Timing: cases to records; apart from the engine, since a time taken beside other lanes means nothing."""
