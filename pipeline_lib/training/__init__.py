"""Training of one model by one method, as a program of its own: `python -m pipeline_lib.training spec.json`.

Read in the order: `losses` (formulas), `methods` (loss + reference + annotators + labels), `policy`, `reference`,
`batches`, `step` (one optimizer step), `run` (its state), `trainer` (the loop), `checkpoints`; `job` starts it all.
"""
