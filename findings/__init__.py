"""What results say: claims as data, documents, provenance, estimates with errors, verdicts, tables."""
