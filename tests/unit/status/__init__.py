"""Tests of the status API's pure parts."""
