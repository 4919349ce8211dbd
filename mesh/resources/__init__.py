"""What every resource-oriented API has (the Google AIPs), once for all services: here, the text that people read."""
