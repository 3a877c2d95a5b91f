"""relay's tests: unit (pure), integration (real Postgres, files, HTTP), acceptance (the whole), bench (by hand)."""
