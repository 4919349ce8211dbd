"""What must leave a service: a row in the transaction of the change, sent by a relay after the commit."""
