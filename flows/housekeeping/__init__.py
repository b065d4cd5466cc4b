"""`convoy gc` and `convoy keep`: free what no registered model, no kept run and no branch needs."""
