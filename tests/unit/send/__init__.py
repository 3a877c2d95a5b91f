"""Tests of `relay send` without a receiver."""
