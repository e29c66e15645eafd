"""A captioning server that any OpenAI client talks to: ``python -m helpers.serve FOLDER --port 8000``.

It is transformers' own server (``transformers serve``) with what that one lacks for Audio Flamingo 3: see
`helpers.serve.server` for the repairs and `helpers.serve.requests` for what a client may ask.
"""
