"""What figures share: style, panels, marks of methods."""
