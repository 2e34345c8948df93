"""One file per flow: wiring only. A flow's signature is the user's form in the UI: flat, typed, defaulted.

Every flow can run alone: what it needs and was not given, it gets from the flow upstream, which is a no-op when the
store already holds the answer.
"""
