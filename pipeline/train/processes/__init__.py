"""Several processes that train together, one for each device: who starts them, and what they tell each other."""
