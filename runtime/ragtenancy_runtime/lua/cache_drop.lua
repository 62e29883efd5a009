-- Drops every answer of a tenant.
-- KEYS  exact
return redis.call('UNLINK', KEYS[1])
