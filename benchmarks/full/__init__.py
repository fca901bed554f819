"""All of it in one run, into one folder: ratios first, curves, scenarios, and where the time goes.

cli -> run -> peers, curves, scenarios, costs     what is measured
    -> document, charts                           what is written of it
"""
