"""The upper bounds of histograms' buckets, in seconds unless said otherwise."""

ANSWER_SECONDS = (0.0025, 0.005, 0.01, 0.025, 0.05, 0.1, 0.25, 0.5, 1, 2.5, 5, 10)
"""From what a request takes on an idle machine to more than any sender waits."""

SHORT_SECONDS = (0.001, 0.0025, 0.005, 0.01, 0.025, 0.05, 0.1, 0.25, 0.5, 1, 2.5, 5)
"""What ought to be next to nothing: waits for a connection, or for the event loop."""

APPEND_SECONDS = (0.005, 0.01, 0.025, 0.05, 0.1, 0.25, 0.5, 1, 2.5, 5, 10)

STAGE_SECONDS = (
    *(0.005, 0.01, 0.025, 0.05, 0.1, 0.25, 0.5, 1, 2.5, 5, 10, 30, 60),
    *(120, 300, 600, 900, 1_800, 3_600, 7_200, 21_600, 86_400),
)
"""From the cut of a few rows to a file that waits for the vendor's next day."""

CONFIRMED_SECONDS = (
    *(1, 5, 10, 15, 30, 60, 90, 120, 180, 300),  # opt-outs after 10 s, data after 60 s, and what an import takes
    *(600, 900, 1_200, 1_800, 3_600),  # the same on a shared 配配メール server: 600 and 900 s
    *(7_200, 14_400, 28_800, 86_400),  # tries every 2 h, and the next day's calls
)
"""From receipt to confirmation, at every cadence that the settings have by default, and after retries."""

GROUP_EVENTS = (1, 2, 5, 10, 20, 50, 100, 200, 500, 1000, 2000, 5000)
"""Events."""
