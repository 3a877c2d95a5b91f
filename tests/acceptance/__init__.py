"""Tests of relay as a whole: what was promised."""
