"""The doctor: why a compressed model is less accurate, and the cheapest repair that was tried and measured.

    harm.py          how much a changed model's outputs differ, in one number that sees every part of an output
    examine.py       what each layer's weights, each layer's activations and each shared range cost alone
    spreads.py       what activations look like channel by channel, over calibration and evaluation inputs
    chart.py         all of that together
    causes.py        one function a cause; data_causes.py those of the data; half.py those of float16
    repairs.py       changes of a plan that may help; trials.py tries them
    diagnose.py      the stages in order
    signs.py         what the report draws; told.py and page.py write it

`told.py` and `page.py` are free of numpy and engines: the command line prints with them.
"""
