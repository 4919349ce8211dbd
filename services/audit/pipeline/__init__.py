"""The way of an event into the trail: from the queue to an object in S3."""
