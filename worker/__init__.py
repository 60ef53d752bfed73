"""The worker: takes committed events from the outbox and shows them on the boards."""
