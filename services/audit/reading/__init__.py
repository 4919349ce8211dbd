"""Questions to the trail: a projection in PostgreSQL, AuditService, and open watches."""
