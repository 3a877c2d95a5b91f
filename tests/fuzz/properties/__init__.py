"""What holds for every input. Each property takes an input and raises AssertionError where it does not hold.

They know no fuzzer: `tests/fuzz/targets.py` calls them with what atheris makes up, `tests/unit/test_properties.py` with
what Hypothesis does. An exception that is not documented is a finding as well, and simply comes through.
"""
