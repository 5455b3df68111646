"""From a wake-up to a finished pass: cache, queue, build slots, one pass, and what is counted."""
