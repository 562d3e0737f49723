"""`make bench`: what a call and a stream event cost, against the bare upstream in the same run."""
