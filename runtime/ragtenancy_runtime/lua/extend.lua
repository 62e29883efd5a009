-- Extends the leases of requests that are still running. Gives the ids whose lease was lost.
-- KEYS  leases, admitted
-- ARGV  lease in ms, record's life in ms, request ids
local time = redis.call('TIME')
local deadline = time[1] * 1000 + math.floor(time[2] / 1000) + tonumber(ARGV[1])
local lost = {}
for i = 3, #ARGV do
  if redis.call('ZSCORE', KEYS[1], ARGV[i]) then
    redis.call('ZADD', KEYS[1], 'XX', deadline, ARGV[i])
    redis.call('HPEXPIRE', KEYS[2], ARGV[2], 'FIELDS', 1, ARGV[i])
  else
    lost[#lost + 1] = ARGV[i]
  end
end
return lost
