"""Tests of the analysis; a package, so that the report's tests can use its made runs."""
