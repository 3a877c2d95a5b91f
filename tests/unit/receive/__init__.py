"""Tests of receiving without a database."""
