#!/opt/relay/venv/bin/python
"""The command `relay` in the image."""

from relay.__main__ import main

main()
