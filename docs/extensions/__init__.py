"""What Sphinx is taught: formulas without network, the ledger as pages, measured tables from result files."""
