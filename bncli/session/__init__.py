"""The path from a study to its result, for a terminal, a notebook, a script and a cluster alike; prints nothing."""
