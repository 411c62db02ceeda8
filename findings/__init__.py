"""What results say: documents, provenance, estimates with errors, verdicts, tables."""
