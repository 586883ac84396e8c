"""What `deploy/` has, read by parsers and by the programs that it is for, where these exist."""
