"""The chain from preference pairs to an evaluated model, as plain Python: no orchestrator, no tracker, no server.

    plan = chain.plan("shapes", "dpo", store="./store", scratch=Path("./scratch"))
    found = chain.products(plan, "evaluation")

Stages whose answer is in the store are found there, and a run that was killed continues.
"""

from pipeline_lib.chain.plan import Plan, plan
from pipeline_lib.chain.run import Step, Walk, products, walk
from pipeline_lib.chain.stages import STAGES, Stage

__all__ = ["STAGES", "Plan", "Stage", "Step", "Walk", "plan", "products", "walk"]
