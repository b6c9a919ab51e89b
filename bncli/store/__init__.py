"""The only package that writes results: immutable records in a folder, and the pack that reads thousands fast."""
