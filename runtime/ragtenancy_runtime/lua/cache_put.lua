-- Keeps an answer, unless the tenant is gone: a late write must not bring its keys back.
-- KEYS  exact, gone
-- ARGV  field, value, life in ms
if redis.call('EXISTS', KEYS[2]) == 1 then return 'gone' end
redis.call('HSET', KEYS[1], ARGV[1], ARGV[2])
redis.call('HPEXPIRE', KEYS[1], ARGV[3], 'FIELDS', 1, ARGV[1])
return 'kept'
