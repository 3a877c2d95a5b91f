"""Tests of the store, on the newest and the oldest supported Postgres."""
