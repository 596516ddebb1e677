"""Planning: which precision each layer gets, so that a model fits a budget.

    sensitivity.py   what each layer costs in each precision, alone, at the output
    knapsack.py      the best choice under a bound, exactly
    search.py        choose, build, execute, tighten, until what is measured fits
    front.py         what no other point beats

Bits are chosen on calibration data. Labels of evaluation data are looked at by `search.py` alone, and only to judge
what was chosen: whether a plan as a whole stays within the budget.
"""
