"""Records to data frames, figures, explanations; needs no chain and no GPU."""
