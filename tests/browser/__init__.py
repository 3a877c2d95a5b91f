"""The ops page in a real browser, against a real relay: run by `make verify-browser`."""
