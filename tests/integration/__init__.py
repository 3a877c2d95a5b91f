"""Tests against real Postgres, real files and real HTTP."""
