"""The embedded corpus `mini`: about an hour of synthetic English speech with labels.

`manifest.jsonl` lists the files under `audio/`; `README.md` is the card; `make/` makes it again.
"""
