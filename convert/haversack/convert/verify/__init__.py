"""Verification: executing what was made, and comparing.

contract.py    what each recipe promises, as data
original.py    the source file, run by its own runtime
reference.py   its outputs, computed once for all artifacts
execute.py     running over samples
edges.py       an artifact through the model's own inputs and outputs
information.py  outputs whose comparison says nothing
compare.py     distances; accuracy.py  proportions and their intervals
judge.py       one artifact held to its contract
layers.py      each layer alone; diverge.py  the first that leaves the model; probe_*.py  looking inside
artifact.py    an artifact that exists already
"""
