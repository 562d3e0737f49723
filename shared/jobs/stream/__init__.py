"""What a streamed job tells while it runs: its events are kept, so that anybody can follow them."""
