"""Running a plan until one attempt succeeds: retry, fall back, give up; no IO of its own."""
