-- Ends a writer's claim on a document, if it still holds it.
-- KEYS  writing
-- ARGV  document, writer
local claim = redis.call('HGET', KEYS[1], ARGV[1])
if claim and string.match(claim, '^(%S+)') == ARGV[2] then redis.call('HDEL', KEYS[1], ARGV[1]) end
return 'released'
