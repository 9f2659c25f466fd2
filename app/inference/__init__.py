"""From image bytes to class scores: queues, threads and the device."""
