"""How a statement is shown: its contract, formulas, exact arithmetic, intervals, searches."""
