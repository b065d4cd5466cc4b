"""What is computed: stages, their parts, and the record of what came of them. Imports no Prefect."""
