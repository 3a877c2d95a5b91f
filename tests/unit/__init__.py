"""Tests of what needs neither Postgres nor HTTP."""
