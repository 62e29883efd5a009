-- Notes that a tenant's shard is about to be used, so that it is not put to sleep.
-- KEYS  used, gone
if redis.call('EXISTS', KEYS[2]) == 1 then return 'gone' end
redis.call('SET', KEYS[1], redis.call('TIME')[1])
return 'noted'
