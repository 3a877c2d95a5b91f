"""Tests of what operators look at: dashboards and alerts, in a real Prometheus that scrapes a real relay."""
