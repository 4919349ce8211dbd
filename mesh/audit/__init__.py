"""The audit trail on its way out of a service: the catalogue of events, the chain that numbers them, and the sink that
is EventBridge.
"""
