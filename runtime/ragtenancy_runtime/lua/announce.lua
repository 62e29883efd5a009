-- Starts a new epoch of a tenant's corpus, after a document was switched.
-- KEYS  epoch, writing, gone
-- ARGV  the new epoch (never used before), document, writer
if redis.call('EXISTS', KEYS[3]) == 1 then return 'gone' end
redis.call('SET', KEYS[1], ARGV[1])
local claim = redis.call('HGET', KEYS[2], ARGV[2])
local writer, deadline = string.match(claim or '', '^(%S+) (%S+)')
if writer == ARGV[3] then
  redis.call('HSET', KEYS[2], ARGV[2], writer .. ' ' .. deadline .. ' 0')
end
return 'announced'
