"""Where settled bills are kept."""
