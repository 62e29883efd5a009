-- Claims a document for one writer, or extends the claim it has.
--
-- A claim is '<writer> <deadline in ms> <switching>'. From just before a document is switched until
-- announce.lua, switching is 1: admit.lua then keeps the tenant from reading or filling its cache,
-- and starts a new epoch itself when the writer died before it could.
--
-- KEYS  writing, gone
-- ARGV  document, writer, life in ms, switching
if redis.call('EXISTS', KEYS[2]) == 1 then return 'gone' end
local time = redis.call('TIME')
local now = time[1] * 1000 + math.floor(time[2] / 1000)
local claim = redis.call('HGET', KEYS[1], ARGV[1])
if claim then
  local writer, deadline = string.match(claim, '^(%S+) (%S+)')
  if writer ~= ARGV[2] and tonumber(deadline) > now then return 'busy' end
end
redis.call('HSET', KEYS[1], ARGV[1],
  ARGV[2] .. ' ' .. string.format('%.0f', now + tonumber(ARGV[3])) .. ' ' .. ARGV[4])
return 'claimed'
