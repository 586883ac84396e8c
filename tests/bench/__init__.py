"""`make bench`: what Millrace costs beside a bare relay and nginx, in one interleaved run."""
