"""Model and test split -> scores with intervals, tables, pictures, report."""
