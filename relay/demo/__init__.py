"""What the demo, the tests and the benchmarks run against: simulated vendors, generated customers, embedded Postgres.

The simulated vendors share no code with the rest of relay, so that a mistake made twice cannot cancel itself out.
"""
